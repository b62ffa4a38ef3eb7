-- Ask for a job's cancellation. fal decides the end; until its id is known, accept carries it on.
-- KEYS[1] job
-- Returns {what, fal's id or ''}: what is 'asked', 'ended' or 'missing'.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id')
if not known[1] then return { 'missing', '' } end
if known[1] == 'completed' or known[1] == 'failed' or known[1] == 'cancelled'
    or known[1] == 'expired' then
    return { 'ended', '' }
end
redis.call('HSET', KEYS[1], 'cancel', 1)
return { 'asked', known[2] or '' }
