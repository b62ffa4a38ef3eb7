-- Write how an attempt at a delivery went. Told twice, or by one whose claim is over, it counts
-- once.
-- KEYS[1] outbox   KEYS[2] delivery
-- ARGV[1] id   ARGV[2] try again in, ms, or '' if it is done with   ARGV[3] note
-- ARGV[4] which attempt it was, from 0
-- Returns 1, or 0 if the delivery is gone or stands at another attempt.
local attempt = redis.call('HGET', KEYS[2], 'attempt')
if not attempt then redis.call('ZREM', KEYS[1], ARGV[1]) end
if attempt ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[2], 'attempt', attempt + 1, 'note', ARGV[3])
if ARGV[2] == '' then
    redis.call('ZREM', KEYS[1], ARGV[1])
else
    local time = redis.call('TIME')
    redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2], ARGV[1])
end
return 1
