-- Take or keep the right to hold a job's one status stream. Each new holder gets a higher number,
-- which its progress carries, so that a paused former holder can do no harm when it wakes.
-- KEYS[1] watch   KEYS[2] job
-- ARGV[1] holder   ARGV[2] lifetime, ms
-- Returns the lease's number; 0 while another holds it; -1 if the job is not open.
local state = redis.call('HGET', KEYS[2], 'state')
if state ~= 'queued' and state ~= 'running' and state ~= 'unknown' then return -1 end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('HGET', KEYS[2], 'lease') or 0) end
return redis.call('HINCRBY', KEYS[2], 'lease', 1)
