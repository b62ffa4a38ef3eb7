-- Write fal's id of a job that fal took, even after its end: a webhook can overtake the answer.
-- A second, different id is not written, and the same one changes nothing: the job has gone on.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- ARGV[1] fal's id   ARGV[2] queued or running   ARGV[3] position or ''   ARGV[4] ask in, ms
-- ARGV[5] the fal account that took it           ARGV[6] its place counts for, ms
-- Returns {what, cancel requested, job}: what is 'accepted', 'ended', 'other' (another id is known)
-- or 'missing'. The job is told if this call has changed it.
local known = redis.call('HMGET', KEYS[1], 'state', 'fal_id', 'cancel', 'id')
if not known[1] then return { 'missing', 0 } end
if known[2] and known[2] ~= ARGV[1] then return { 'other', 0 } end
if known[2] and not ENDED[known[1]] then return { 'accepted', tonumber(known[3] or 0) } end
redis.call('HSET', KEYS[1], 'fal_id', ARGV[1], 'sign', now, 'account', ARGV[5])
drop_input(known[4])
if ENDED[known[1]] then return { 'ended', 0 } end
move_slots(known[4], ARGV[6])
redis.call('ZADD', KEYS[15], now + ARGV[4], known[4])
if ARGV[2] == 'running' then
    redis.call('HSET', KEYS[1], 'state', 'running', 'started', now)
    redis.call('HDEL', KEYS[1], 'position')
    queued_at_fal(known[4], false)
    emit('job.started')
else
    redis.call('HSET', KEYS[1], 'state', 'queued', 'position', ARGV[3])
    queued_at_fal(known[4], true)
    emit('job.queued', { 'position', ARGV[3] })
end
return { 'accepted', tonumber(known[3] or 0), redis.call('HGETALL', KEYS[1]) }
