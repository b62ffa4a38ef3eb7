-- Take what is due, for a while: what is not done with by then is due again. So is what was
-- taken by a call whose answer got lost: nobody works on it until then, and nothing is lost.
-- KEYS[1] due or outbox
-- ARGV[1] how many at most   ARGV[2] for how long, ms
-- Returns their ids.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], now + ARGV[2], id) end
return ids
