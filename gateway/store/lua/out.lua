-- Take an account at fal out of use, unless it is out already. One that is refused again soon
-- after it came back is probed as rarely as before.
-- KEYS[1] out
-- ARGV[1] account   ARGV[2] what fal answered   ARGV[3] until the first probe, ms
-- ARGV[4] between probes at most, ms   ARGV[5] lifetime, s
-- Returns 1 if it was in use.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local longest = tonumber(ARGV[4])
local pause = tonumber(ARGV[3])
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then
    known = cjson.decode(known)
    if not known.back then return 0 end
    if now - known.back < longest then pause = math.min(known.pause * 2, longest) end
end
local out = {
    since = now, status = tonumber(ARGV[2]), probes = 0, pause = pause, probe_at = now + pause,
}
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(out))
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
