-- Write how an attempt at a delivery went.
-- KEYS[1] outbox   KEYS[2] delivery
-- ARGV[1] id   ARGV[2] try again in, ms, or '' if it is done with   ARGV[3] note
-- Returns 1, or 0 if the delivery is gone.
if redis.call('EXISTS', KEYS[2]) == 0 or ARGV[2] == '' then
    redis.call('ZREM', KEYS[1], ARGV[1])
end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'attempt', 1)
redis.call('HSET', KEYS[2], 'note', ARGV[3])
if ARGV[2] ~= '' then
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
end
return 1
