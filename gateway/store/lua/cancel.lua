-- Ask for a job's cancellation. fal decides the end; until its id is known, accept carries it on.
-- A job that waits in the gateway's own queue leaves it at once: fal need not be asked.
-- KEYS[1] job   KEYS[2] waiting, principal   KEYS[3] waiting, team   KEYS[4] due
-- ARGV[1] look if it has ended in, ms
-- Returns {what, fal's id or ''}: what is 'asked', 'withdrawn', 'ended' or 'missing'.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'waiting', 'id')
if not known[1] then return { 'missing', '' } end
if known[1] == 'completed' or known[1] == 'failed' or known[1] == 'cancelled'
    or known[1] == 'expired' then
    return { 'ended', '' }
end
redis.call('HSET', KEYS[1], 'cancel', 1)
if known[3] == '1' then
    redis.call('ZREM', KEYS[2], known[4])
    redis.call('ZREM', KEYS[3], known[4])
    local time = redis.call('TIME') -- whoever is to write its end may die before
    redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1], known[4])
    return { 'withdrawn', '' }
end
return { 'asked', known[2] or '' }
