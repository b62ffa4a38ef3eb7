-- Let a waiting job go to fal, if its principal and its team have room. Of several processes that
-- try, one gets its input: nobody sends it twice.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- ARGV[1] id   ARGV[2] in flight at most, principal   ARGV[3] the same, team; 0: any number
-- ARGV[4] fal account   ARGV[5] ask about it in, ms   ARGV[6] its place counts for, ms
-- ARGV[7] who tries: the same one may say it twice
-- Returns {'admitted', input}; {'principal'} or {'team'}: who has no room; {'gone'}: it does not
-- wait any more.
local known = redis.call('HMGET', KEYS[1], 'state', 'waiting', 'cancel', 'attempt', 'fal_id')
if known[1] == 'queued' and not known[2] and known[4] == ARGV[7] and not known[5] then
    return { 'admitted', redis.call('GET', KEYS[7]) or '' } -- the answer got lost
end
if known[1] ~= 'queued' or known[2] ~= '1' or known[3] == '1' then return { 'gone' } end
for list, who in pairs({ [10] = 'principal', [11] = 'team' }) do
    local most = tonumber(ARGV[list - 8])
    redis.call('ZREMRANGEBYSCORE', KEYS[list], '-inf', now)
    if most > 0 and redis.call('ZCARD', KEYS[list]) >= most then return { who } end
end
local input = redis.call('GET', KEYS[7])
if not input then -- its time is over, or Redis has lost it; the due loop ends it
    forget_bytes(ARGV[1])
    return { 'gone' }
end
redis.call('ZREM', KEYS[8], ARGV[1])
redis.call('ZREM', KEYS[9], ARGV[1])
redis.call('PEXPIRE', KEYS[7], ARGV[5]) -- accept drops it
count_until(ARGV[1], now + ARGV[5])
redis.call('HDEL', KEYS[1], 'waiting')
redis.call('HSET', KEYS[1], 'account', ARGV[4], 'sign', now, 'attempt', ARGV[7])
redis.call('ZADD', KEYS[15], now + ARGV[5], ARGV[1])
hold_slots(ARGV[1], ARGV[6])
queued_at_fal(ARGV[1], true) -- or those behind it would see it gone, and come again
return { 'admitted', input }
