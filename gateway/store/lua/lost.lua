-- A submit whose outcome is not known: the job waits, as `unknown`, for its webhook or its expiry.
-- Its places in flight are given back after a while, since it may never have been one.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- ARGV[1] look again in, ms   ARGV[2] its place in flight counts for, ms
-- Returns 1 if it was moved, 0 if fal's id is known by now, or the job is not queued, or waits.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'id', 'waiting')
if known[1] ~= 'queued' or known[2] or known[4] == '1' then return 0 end
redis.call('HSET', KEYS[1], 'state', 'unknown')
drop_input(known[3])
queued_at_fal(known[3], false)
move_slots(known[3], ARGV[2])
redis.call('ZADD', KEYS[15], now + ARGV[1], known[3])
emit('job.unknown')
return 1
