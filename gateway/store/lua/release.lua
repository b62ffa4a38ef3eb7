-- Give a job's watch back, if it is still ours.
-- KEYS[1] watch
-- ARGV[1] holder
-- Returns 1 if it was ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
