-- Write a job before fal is asked, so that whatever happens next, it is known. A job that is
-- there already (its webhook was faster, and made it from the ticket) is left as it is.
-- KEYS[1..6] see emit.lua   KEYS[7] jobs   KEYS[8] team-jobs   KEYS[9] due
-- ARGV[1] lifetime, s       ARGV[2] ask about it in, ms       ARGV[3] jobs listed at most
-- ARGV[4] id                ARGV[5] created, ms
-- ARGV[6...] further fields of the job, name and value in turn
-- Returns 1 if written, 0 if it was there.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return 0
end
redis.call('HSET', KEYS[1], 'id', ARGV[4], 'created', ARGV[5], 'state', 'queued', 'sign', now,
    unpack(ARGV, 6))
redis.call('EXPIRE', KEYS[1], ARGV[1])
for list = 7, 8 do
    redis.call('ZADD', KEYS[list], ARGV[5], ARGV[4])
    redis.call('ZREMRANGEBYRANK', KEYS[list], 0, -1 - ARGV[3])
    redis.call('EXPIRE', KEYS[list], FEED_LIVES)
end
redis.call('ZADD', KEYS[9], now + ARGV[2], ARGV[4])
emit('job.created')
return 1
