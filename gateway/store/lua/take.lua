-- Take a place at an account of fal's, or keep the one that a job has. Each place has a time until
-- which it counts, so that none is lost for good.
-- KEYS[1] slots   KEYS[2] waits
-- ARGV[1] id   ARGV[2] how many at most; 0: any number   ARGV[3] it counts for, ms
-- ARGV[4] 1: whoever waits in the gateway's queue goes first
-- Returns 1 if the place is there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
    if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
    local most = tonumber(ARGV[2])
    if most > 0 and redis.call('ZCARD', KEYS[1]) >= most then return 0 end
end
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[3], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
return 1
