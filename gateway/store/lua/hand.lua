-- Give a place at an account of fal's that was taken under one id to another.
-- KEYS[1] slots
-- ARGV[1] id   ARGV[2] the other   ARGV[3] it counts for, ms
-- Returns 1.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], 'GT', now + ARGV[3], ARGV[2])
redis.call('PEXPIREAT', KEYS[1], redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
return 1
