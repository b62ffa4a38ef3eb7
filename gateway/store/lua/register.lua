-- Write records of the registry, all or none: each only if it is what its writer thinks it is.
-- Sent twice, it writes once.
-- KEYS[1] version   KEYS[2] floor   KEYS[3] changes
-- KEYS[4] keys      KEYS[5] plans   KEYS[6] names
-- ARGV[1] a mark of this write      ARGV[2] the registry's version that must still hold, or ''
-- ARGV[3] a plan that must be there, or ''
-- ARGV[4] keys at most              ARGV[5] plans at most
-- ARGV[6...] records in fives: k or p; id; the version that it has, 0 if it is new, '' whatever;
--     its JSON, '' to remove it; the digest of the name that it takes or gives up, or ''
-- Returns {1, version}, or {0, why}: conflict, plan, name, full.
local PLACES = {k = 4, p = 5}

local function record(kind, id)
    local place = PLACES[kind]
    local text = redis.call('HGET', KEYS[place], id)
    return text and cjson.decode(text)
end

-- A name is free when who has it is gone, or gives it up here, or is good for nothing any more.
local function taken(digest)
    local holder = redis.call('HGET', KEYS[6], digest)
    for index = 6, #ARGV, 5 do
        if ARGV[index + 1] == holder then
            return false
        end
    end
    local key = holder and record('k', holder)
    if not key then
        return false
    end
    local ends = key.record.expires_at
    local revoked = key.record.revoked_at
    local alive = type(ends) ~= 'number' or ends > tonumber(redis.call('TIME')[1])
    return alive and type(revoked) ~= 'number'
end

local function room(kind)
    local place = PLACES[kind]
    return redis.call('HLEN', KEYS[place]) < tonumber(ARGV[place])
end

local function refusal()
    if ARGV[2] ~= '' and ARGV[2] ~= (redis.call('GET', KEYS[1]) or '0') then
        return 'conflict'
    end
    if ARGV[3] ~= '' and redis.call('HEXISTS', KEYS[5], ARGV[3]) == 0 then
        return 'plan'
    end
    for index = 6, #ARGV, 5 do
        local kind, expected, text = ARGV[index], ARGV[index + 2], ARGV[index + 3]
        local known = record(kind, ARGV[index + 1])
        if expected ~= '' and tonumber(expected) ~= (known and known.version or 0) then
            return 'conflict'
        end
        if text ~= '' and not known then
            if not room(kind) then
                return 'full'
            end
            if ARGV[index + 4] ~= '' and taken(ARGV[index + 4]) then
                return 'name'
            end
        end
    end
end

local first = record(ARGV[6], ARGV[7])
if first and first.write == ARGV[1] then
    return {1, first.version}
end
local why = refusal()
if why then
    return {0, why}
end
local version = redis.call('INCR', KEYS[1])
for index = 6, #ARGV, 5 do
    local kind, id, text, digest = ARGV[index], ARGV[index + 1], ARGV[index + 3], ARGV[index + 4]
    local place = PLACES[kind]
    if text == '' then
        redis.call('HDEL', KEYS[place], id)
        redis.call('ZREM', KEYS[3], kind .. id)
        redis.call('SET', KEYS[2], version) -- who is behind it reads all anew
        if digest ~= '' and redis.call('HGET', KEYS[6], digest) == id then
            redis.call('HDEL', KEYS[6], digest)
        end
    else
        redis.call('HSET', KEYS[place], id,
            '{"version":' .. version .. ',"write":"' .. ARGV[1] .. '","record":' .. text .. '}')
        redis.call('ZADD', KEYS[3], version, kind .. id)
        if digest ~= '' then
            redis.call('HSET', KEYS[6], digest, id)
        end
    end
end
return {1, version}
