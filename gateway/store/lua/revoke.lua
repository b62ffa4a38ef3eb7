-- Refuse what was issued under some names before a time, in every process. What has expired by
-- now needs no refusal and goes, a little at each call.
-- KEYS[1] revoked set   KEYS[2] its version   KEYS[3] when entries go, by Unix seconds
-- KEYS[4] names by the version that they came with
-- ARGV[1] Unix seconds   ARGV[2] until when, Unix seconds; '' for good
-- ARGV[3...] names: a key's id, a principal, a token's jti
-- Returns the new version.
local GO_AT_ONCE = 100
local gone = redis.call(
    'ZRANGEBYSCORE', KEYS[3], '-inf', redis.call('TIME')[1], 'LIMIT', 0, GO_AT_ONCE
)
if #gone > 0 then
    redis.call('HDEL', KEYS[1], unpack(gone))
    redis.call('ZREM', KEYS[3], unpack(gone))
    redis.call('ZREM', KEYS[4], unpack(gone))
end
local version = redis.call('INCR', KEYS[2])
for index = 3, #ARGV do
    local name = ARGV[index]
    local before = redis.call('HGET', KEYS[1], name)
    local until_now = redis.call('ZSCORE', KEYS[3], name)
    if not before or tonumber(before) < tonumber(ARGV[1]) then
        redis.call('HSET', KEYS[1], name, ARGV[1])
    end
    if ARGV[2] == '' then
        redis.call('ZREM', KEYS[3], name)
    elseif until_now or not before then -- else it is there for good
        redis.call('ZADD', KEYS[3], 'GT', ARGV[2], name)
    end
    redis.call('ZADD', KEYS[4], version, name)
end
return version
