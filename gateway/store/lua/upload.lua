-- Reserve bytes of an upload against the day of its principal and of its team, all or none; or
-- give back what was not sent. A part counts in its file once, as large as it ever was: whether
-- an earlier try of it is what fal has, nobody knows.
-- KEYS[1..2] meters of principal, team   KEYS[3] parts of its file
-- ARGV[1] bytes; below 0 to give back   ARGV[2] field of the day   ARGV[3] meters live, s
-- ARGV[4] limits, JSON: [{of, name, amount, shadow}]
-- ARGV[5] the part's number, or ''      ARGV[6] bytes of all parts at most, or ''
-- ARGV[7] parts live, s
-- Returns {0, left, left ...}: bytes left of each limit; {which}: the limit that refuses, from 1;
-- {-1}: the file gets too large.
local METERS = { principal = 1, team = 2 }
local size = tonumber(ARGV[1])

local function count(by)
    for meter = 1, 2 do
        local left = redis.call('HINCRBY', KEYS[meter], ARGV[2], by)
        if left < 0 then redis.call('HDEL', KEYS[meter], ARGV[2]) end
        redis.call('EXPIRE', KEYS[meter], ARGV[3])
    end
end

if size < 0 then
    count(ARGV[1])
    return { 0 }
end

local growth = 0
if ARGV[5] ~= '' then
    local known = redis.call('HMGET', KEYS[3], ARGV[5], 'total')
    growth = math.max(0, size - (known[1] or 0))
    if ARGV[6] ~= '' and (known[2] or 0) + growth > tonumber(ARGV[6]) then return { -1 } end
end

local answer, shadows = { 0 }, {}
for index, limit in ipairs(cjson.decode(ARGV[4])) do
    local key = KEYS[METERS[limit.of]]
    local left = limit.amount - (redis.call('HGET', key, ARGV[2]) or 0) - size
    if left < 0 and not limit.shadow then return { index } end
    if left < 0 then shadows[#shadows + 1] = { key, 's:' .. limit.name } end
    answer[#answer + 1] = math.max(0, left)
end

for _, shadow in ipairs(shadows) do
    local key, field = unpack(shadow)
    redis.call('HINCRBY', key, field, 1)
end
if growth > 0 then
    redis.call('HINCRBY', KEYS[3], ARGV[5], growth)
    redis.call('HINCRBY', KEYS[3], 'total', growth)
    redis.call('EXPIRE', KEYS[3], ARGV[7])
end
count(ARGV[1])
return answer
