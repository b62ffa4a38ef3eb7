-- Which accounts that are out shall be probed now. Of all processes one is told, for a while.
-- What came back long ago is forgotten.
-- KEYS[1] out
-- ARGV[1] for how long, ms   ARGV[2] how long a comeback is remembered, ms   ARGV[3] lifetime, s
-- Returns their names.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local due = {}
for i = 1, #all, 2 do
    local out = cjson.decode(all[i + 1])
    if out.back then
        if now - out.back >= tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], all[i]) end
    elseif out.probe_at <= now then
        out.probe_at = now + ARGV[1]
        redis.call('HSET', KEYS[1], all[i], cjson.encode(out))
        due[#due + 1] = all[i]
    end
end
if #due > 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return due
