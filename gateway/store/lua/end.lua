-- Write how a job ended, once, with its result, its event and its delivery: whoever of webhook,
-- status stream and due loop comes first. No crash can land between these.
-- KEYS[1..6] see emit.lua   KEYS[7] result   KEYS[8] logs   KEYS[9] due
-- KEYS[10] outbox           KEYS[11] delivery
-- ARGV[1] state   ARGV[2] fal's id or ''   ARGV[3] result's body   ARGV[4] retention, s
-- ARGV[5] 1: only while fal's id is not known; and no delivery, unless ARGV[6]
-- ARGV[6] only if fal said nothing of it for so many ms; 0: whatever it said
-- ARGV[7] delivery id   ARGV[8] its lifetime, s   ARGV[9] settled, 1 or 0
-- ARGV[10...] the end's fields of the job, name and value in turn
-- Returns 'ended' if this call ended it; 'before' if it had ended; 'other' if fal's id is another;
-- 'kept' if a condition does not hold; 'missing'.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'sign', 'webhook', 'id')
if not known[1] then return 'missing' end
if ARGV[2] ~= '' and known[2] and known[2] ~= ARGV[2] then return 'other' end
if ENDED[known[1]] then return 'before' end
if ARGV[5] == '1' and known[2] then return 'kept' end
local quiet = tonumber(ARGV[6])
if quiet > 0 and now - known[3] < quiet then return 'kept' end

redis.call('HSET', KEYS[1], 'state', ARGV[1], 'ended', now, 'settled', ARGV[9], unpack(ARGV, 10))
if redis.call('HGET', KEYS[1], 'where') == 'stored' then
    redis.call('SET', KEYS[7], ARGV[3], 'EX', ARGV[4]) -- even an empty one
end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'fal_id', ARGV[2]) end
redis.call('HDEL', KEYS[1], 'position')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[8], ARGV[4])
if ARGV[9] == '1' then
    redis.call('ZREM', KEYS[9], known[5])
else
    redis.call('ZADD', KEYS[9], now, known[5])
end
local refused = ARGV[5] == '1' and quiet == 0 -- by fal, and its submitter is told
if known[4] and known[4] ~= '' and not refused then
    redis.call('HSET', KEYS[11], 'job', known[5], 'url', known[4], 'attempt', 0)
    redis.call('EXPIRE', KEYS[11], ARGV[8])
    redis.call('ZADD', KEYS[10], now, ARGV[7])
end
local more = {}
for _, name in ipairs({ 'http', 'error', 'error_type' }) do
    more[#more + 1] = name
    more[#more + 1] = redis.call('HGET', KEYS[1], name) or ''
end
emit('job.' .. ARGV[1], more)
return 'ended'
