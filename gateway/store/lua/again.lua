-- Look at a job again later, unless it has ended and is done with.
-- KEYS[1] job   KEYS[2] due
-- ARGV[1] id   ARGV[2] in, ms
-- Returns 1, or 0 if the job is gone.
if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HINCRBY', KEYS[1], 'asks', 1)
redis.call('ZADD', KEYS[2], 'XX', now + ARGV[2], ARGV[1])
return 1
