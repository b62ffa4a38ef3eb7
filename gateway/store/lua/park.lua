-- Let a job that was opened wait after all: there is no room for it at the fal account.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- ARGV[1] id   ARGV[2] the queue, see core.meters   ARGV[3] its input
-- ARGV[4] who was to send it: see admit.lua; '' for whoever opened it
-- Returns its place, from 1; 0 if the queue is full, or its input does not fit, or the job is not one
-- that fal has yet to get, or is to be cancelled.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'cancel', 'waiting', 'attempt')
-- The answer got lost: it waits, or another has let it go since, and is to send it alone.
if known[4] == '1' and known[3] ~= '1' then return position(ARGV[1]) + 1 end
if known[4] == '1' or (known[5] or '') ~= ARGV[4] then return 1 end
if known[1] ~= 'queued' or known[2] or known[3] == '1' then return 0 end
local queue = cjson.decode(ARGV[2])
if full(queue, ARGV[1], #ARGV[3]) then return 0 end
free_slots(ARGV[1])
queued_at_fal(ARGV[1], false)
return join_queue(queue, ARGV[1], ARGV[3]) + 1
