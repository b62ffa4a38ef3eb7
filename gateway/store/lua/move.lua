-- Note the fal account that is asked now for a job, after another one has refused it: whatever
-- becomes of the answer, it is this one that may have the job.
-- KEYS[1] job
-- ARGV[1] fal account
-- Returns 1, or 0 where fal's id is known by now, or there is no such job.
local known = redis.call('HMGET', KEYS[1], 'id', 'fal_id')
if not known[1] or known[2] then return 0 end
redis.call('HSET', KEYS[1], 'account', ARGV[1])
return 1
