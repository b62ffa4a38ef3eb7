-- Put before every script that emits events (see connect.script). An event gets the next number
-- of its principal, and is written under it to the job's stream and, log lines apart, to the
-- principal's; the team's stream numbers for itself. The wake-up that follows carries no news:
-- whoever hears it reads the streams.
-- KEYS[1] job      KEYS[2] seq        KEYS[3] events
-- KEYS[4] feed     KEYS[5] team-seq   KEYS[6] team-feed
local FEED_LIVES = 604800 -- seconds
local FEED_LENGTH, JOB_LENGTH = 2000, 1300 -- events; a job has at most 1,000 log lines
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) -- milliseconds

local function add(key, length, id, fields)
    redis.call('XADD', key, 'MAXLEN', length, id, unpack(fields))
end

-- `more` are further fields, name and value in turn.
local function emit(type, more)
    local id = redis.call('INCR', KEYS[2]) .. '-0'
    local known = redis.call('HMGET', KEYS[1], 'id', 'endpoint')
    local fields = { 'type', type, 'job', known[1], 'endpoint', known[2], 'at', now, 'version', id }
    for _, value in ipairs(more or {}) do fields[#fields + 1] = value end
    redis.call('HSET', KEYS[1], 'version', id)
    add(KEYS[3], JOB_LENGTH, id, fields)
    if type ~= 'job.log' then
        add(KEYS[4], FEED_LENGTH, id, fields)
        add(KEYS[6], FEED_LENGTH, redis.call('INCR', KEYS[5]) .. '-0', fields)
        redis.call('EXPIRE', KEYS[4], FEED_LIVES)
        redis.call('EXPIRE', KEYS[5], FEED_LIVES)
        redis.call('EXPIRE', KEYS[6], FEED_LIVES)
    end
    redis.call('EXPIRE', KEYS[2], FEED_LIVES)
    redis.call('EXPIRE', KEYS[3], redis.call('TTL', KEYS[1]))
    redis.call('PUBLISH', 'fgw:wake', table.concat({ KEYS[3], KEYS[4], KEYS[6] }, ' '))
    return id
end

local ENDED = { completed = true, failed = true, cancelled = true, expired = true }
