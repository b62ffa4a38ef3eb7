-- Put back what was claimed and not begun: due again soon.
-- KEYS[1] outbox
-- ARGV[1] in, ms   ARGV[2] id
-- Returns 1, or 0 if it is done with.
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
return redis.call('ZADD', KEYS[1], 'XX', 'CH', at, ARGV[2])
