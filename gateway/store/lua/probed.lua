-- Write how a probe of an account went, or that fal has taken a job of its.
-- KEYS[1] out
-- ARGV[1] account   ARGV[2] 1: its key is good again   ARGV[3] between probes at most, ms
-- Returns 1 if it is back by this.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then return 0 end
local out = cjson.decode(known)
if out.back then return 0 end
if ARGV[2] == '1' then
    out.back = now
else
    out.probes = out.probes + 1
    out.pause = math.min(out.pause * 2, tonumber(ARGV[3]))
    out.probe_at = now + out.pause
end
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(out))
return out.back and 1 or 0
