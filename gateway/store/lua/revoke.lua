-- Refuse what was issued under some names before a time, in every process.
-- KEYS[1] revoked set   KEYS[2] its version
-- ARGV[1] Unix seconds   ARGV[2...] names: a key's id, a principal, a token's jti
-- Returns the new version.
for index = 2, #ARGV do
    local before = redis.call('HGET', KEYS[1], ARGV[index])
    if not before or tonumber(before) < tonumber(ARGV[1]) then
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[1])
    end
end
return redis.call('INCR', KEYS[2])
