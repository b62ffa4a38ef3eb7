-- Count one call that makes no job against all rates of its plan, or, if one of them refuses it,
-- against none.
-- KEYS[1..3] meters of principal, team, address; without an address, two
-- ARGV[1] rates, JSON: [{of, name, field, interval, burst, shadow}], times in us
-- ARGV[2] meters live, s
-- Returns {0, left, us, left, us ...}: how many more calls each rate takes at once, and in what
-- time it takes all again; or {which, us}: which of them refuses, from 1, and for how long.
local METERS = { principal = 1, team = 2, address = 3 }
local now = micros()
local answer, writes, shadows = { 0 }, {}, {}

for index, rate in ipairs(cjson.decode(ARGV[1])) do
    local key = KEYS[METERS[rate.of]]
    local tat = tonumber(redis.call('HGET', key, rate.field) or 0)
    local allowed, new, retry, left = gcra(tat, now, rate.interval, rate.burst)
    if allowed then
        writes[#writes + 1] = { key, rate.field, whole(new) }
    elseif rate.shadow then
        shadows[#shadows + 1] = { key, 's:' .. rate.name }
    elseif answer[1] == 0 or retry > answer[2] then
        answer = { index, retry }
    end
    if answer[1] == 0 then
        answer[#answer + 1] = left
        answer[#answer + 1] = new - now
    end
end

for _, shadow in ipairs(shadows) do
    local key, field = unpack(shadow)
    redis.call('HINCRBY', key, field, 1)
    redis.call('EXPIRE', key, ARGV[2])
end
if answer[1] == 0 then
    for _, write in ipairs(writes) do
        local key, field, tat = unpack(write)
        redis.call('HSET', key, field, tat)
        redis.call('EXPIRE', key, ARGV[2])
    end
end
return answer
