-- Write how a job ended, once, with its result, its event and its delivery: whoever of webhook,
-- status stream and due loop comes first. No crash can land between these.
-- What it held goes back: its places in flight and in the queue, and its input.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- KEYS[16] result   KEYS[17] logs   KEYS[18] outbox   KEYS[19] delivery
-- ARGV[1] state   ARGV[2] fal's id or ''   ARGV[3] result's body   ARGV[4] retention, s
-- ARGV[5] 1: only while fal's id is not known; and no delivery, unless ARGV[6], or it had waited;
-- 2: only while it waits in the gateway's own queue
-- ARGV[6] only if fal said nothing of it for so many ms; 0: whatever it said
-- ARGV[7] delivery id   ARGV[8] its lifetime, s   ARGV[9] whole, 1 or 0: is nothing missing?
-- ARGV[10...] the end's fields of the job, name and value in turn
-- Returns 'ended' if this call ended it; 'before' if it had ended; 'other' if fal's id is another;
-- 'kept' if a condition does not hold; 'missing'.
local UNSETTLED = 345600 -- seconds
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'sign', 'webhook', 'id', 'waited',
    'waiting')
if not known[1] then return 'missing' end
if ARGV[2] ~= '' and known[2] and known[2] ~= ARGV[2] then return 'other' end
if ENDED[known[1]] then return 'before' end
if ARGV[5] == '1' and known[2] then return 'kept' end
if ARGV[5] == '2' and known[7] ~= '1' then return 'kept' end
local quiet = tonumber(ARGV[6])
if quiet > 0 and now - known[3] < quiet then return 'kept' end

redis.call('HSET', KEYS[1], 'state', ARGV[1], 'ended', now, 'settled', 0, 'whole', ARGV[9],
    unpack(ARGV, 10))
if redis.call('HGET', KEYS[1], 'where') == 'stored' then
    redis.call('SET', KEYS[16], ARGV[3], 'EX', ARGV[4]) -- even an empty one
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'fal_id', ARGV[2]) end
redis.call('HDEL', KEYS[1], 'position', 'waiting')
free_slots(known[5])
queued_at_fal(known[5], false)
redis.call('ZREM', KEYS[8], known[5])
redis.call('ZREM', KEYS[9], known[5])
drop_input(known[5])
redis.call('EXPIRE', KEYS[1], math.max(ARGV[4], UNSETTLED)) -- what it holds must not be lost
redis.call('EXPIRE', KEYS[17], ARGV[4])
redis.call('ZADD', KEYS[15], now, known[5]) -- until it is settled
local refused = ARGV[5] == '1' and quiet == 0 and known[6] ~= '1' -- and its submitter is told
if known[4] and known[4] ~= '' and not refused then
    redis.call('HSET', KEYS[19], 'job', known[5], 'url', known[4], 'attempt', 0)
    redis.call('EXPIRE', KEYS[19], ARGV[8])
    redis.call('ZADD', KEYS[18], now, ARGV[7])
end
local more = {}
for _, name in ipairs({ 'http', 'error', 'error_type' }) do
    more[#more + 1] = name
    more[#more + 1] = redis.call('HGET', KEYS[1], name) or ''
end
emit('job.' .. ARGV[1], more)
return 'ended'
