-- Add to an end what its webhook did not tell. Settling never changes state or body.
-- KEYS[1] job   KEYS[2] result   KEYS[3] due
-- ARGV[1] body or ''   ARGV[2] where the body is   ARGV[3] retention, s   ARGV[4] id
-- ARGV[5...] fields of the job, name and value in turn
-- Returns 1 if something was added, 0 if the end was settled, or there is none.
local known = redis.call('HMGET', KEYS[1], 'settled', 'where')
if known[1] ~= '0' then return 0 end
if known[2] ~= 'stored' then
    if ARGV[2] == 'stored' then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3]) end
    redis.call('HSET', KEYS[1], 'where', ARGV[2])
end
redis.call('HSET', KEYS[1], 'settled', 1, unpack(ARGV, 5))
redis.call('ZREM', KEYS[3], ARGV[4])
return 1
