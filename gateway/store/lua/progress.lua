-- Write what fal says of an open job. What a former holder of its watch still sends is dropped,
-- and a log line that is known is not written again: a status stream starts from the beginning.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] logs
-- ARGV[1] lease number, or '' from the due loop    ARGV[2] queued, running or completed
-- ARGV[3] position or ''    ARGV[4] log lines at most   ARGV[5] log bytes at most
-- ARGV[6] its place in flight counts for, ms, where it was unknown   ARGV[7...] log lines, as JSON
-- Returns 1 if written, 0 if the job has ended, is not known, or the lease is an older one.
local known = redis.call('HMGET', KEYS[1], 'state', 'position', 'lease', 'log_bytes', 'started',
    'id')
if not known[1] or ENDED[known[1]] then return 0 end
if ARGV[1] ~= '' and tonumber(ARGV[1]) < tonumber(known[3] or 0) then return 0 end
local word = ARGV[2]
if word == 'completed' then
    word = 'running' -- no sign of life: fal may say so for ever, and have dropped the result
else
    redis.call('HSET', KEYS[1], 'sign', now)
end
if known[1] == 'unknown' then move_slots(known[6], ARGV[6]) end

if word == 'running' and known[1] ~= 'running' then
    redis.call('HSET', KEYS[1], 'state', 'running', 'started', known[5] or now)
    redis.call('HDEL', KEYS[1], 'position')
    queued_at_fal(known[6], false)
    emit('job.started')
elseif word == 'queued' and (known[1] ~= 'queued' or ARGV[3] ~= (known[2] or '')) then
    redis.call('HSET', KEYS[1], 'state', 'queued', 'position', ARGV[3])
    queued_at_fal(known[6], true)
    emit('job.queued', { 'position', ARGV[3] })
end

local count, bytes = redis.call('ZCARD', KEYS[15]), tonumber(known[4] or 0)
for index = 7, #ARGV do
    local line = ARGV[index]
    if count >= tonumber(ARGV[4]) or bytes + #line > tonumber(ARGV[5]) then break end
    if redis.call('ZADD', KEYS[15], 'NX', count, line) == 1 then
        count, bytes = count + 1, bytes + #line
        emit('job.log', { 'log', line })
    end
end
redis.call('HSET', KEYS[1], 'log_bytes', bytes)
redis.call('EXPIRE', KEYS[15], redis.call('TTL', KEYS[1]))
return 1
