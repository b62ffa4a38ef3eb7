-- A submit whose outcome is not known: the job waits, as `unknown`, for its webhook or its expiry.
-- KEYS[1..6] see emit.lua   KEYS[7] due
-- ARGV[1] look again in, ms
-- Returns 1 if it was moved, 0 if fal's id is known by now, or the job is not queued.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'id')
if known[1] ~= 'queued' or known[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'unknown')
redis.call('ZADD', KEYS[7], now + ARGV[1], known[3])
emit('job.unknown')
return 1
