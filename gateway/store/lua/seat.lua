-- Take a seat for one stream, of its principal and of its team alike. It lasts as long as it is
-- renewed: the seats of a process that is gone are free soon.
-- KEYS[1..2] streams of principal, team   KEYS[3..4] meters of principal, team
-- ARGV[1] the stream   ARGV[2] lease, ms   ARGV[3] meters live, s
-- ARGV[4] limits, JSON: [{of, name, amount, shadow}]
-- Returns 0, or which limit refuses, from 1.
local PLACES = { principal = 1, team = 2 }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) -- milliseconds

for place = 1, 2 do redis.call('ZREMRANGEBYSCORE', KEYS[place], '-inf', now) end
local shadows = {}
for index, limit in ipairs(cjson.decode(ARGV[4])) do
    local place = PLACES[limit.of]
    if redis.call('ZCARD', KEYS[place]) >= limit.amount then
        if not limit.shadow then return index end
        shadows[#shadows + 1] = { place + 2, 's:' .. limit.name }
    end
end
for _, shadow in ipairs(shadows) do
    local key, field = KEYS[shadow[1]], shadow[2]
    redis.call('HINCRBY', key, field, 1)
    redis.call('EXPIRE', key, ARGV[3])
end
for place = 1, 2 do
    redis.call('ZADD', KEYS[place], now + ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[place], ARGV[2])
end
return 0
