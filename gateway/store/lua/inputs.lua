-- Put before every script that keeps inputs of jobs, or drops them, after emit.lua. What the inputs
-- of a team take up is counted by job, each until its input ends by itself, so that no byte is
-- counted for good, and each is given back once.
-- KEYS[7] input   KEYS[13] inputs, team: bytes by job, and in all   KEYS[14] until when each counts
-- KEYS[1] the job
local ALL = 'all' -- no job is called that

local function forget_bytes(id)
    local bytes = redis.call('HGET', KEYS[13], id)
    redis.call('ZREM', KEYS[14], id)
    if not bytes then return end
    redis.call('HDEL', KEYS[13], id)
    if redis.call('HINCRBY', KEYS[13], ALL, '-' .. bytes) <= 0 then
        redis.call('HDEL', KEYS[13], ALL)
    end
end

-- With this input, if the job has none yet.
local function bytes_with(id, bytes)
    local over = redis.call('ZRANGEBYSCORE', KEYS[14], '-inf', now, 'LIMIT', 0, 100)
    for _, other in ipairs(over) do forget_bytes(other) end
    local known = redis.call('HMGET', KEYS[13], ALL, id)
    return (known[1] or 0) - (known[2] or 0) + bytes
end

local function count_until(id, time)
    redis.call('ZADD', KEYS[14], 'XX', time, id)
end

-- `lives` is seconds.
local function keep_input(id, input, lives)
    forget_bytes(id)
    redis.call('SET', KEYS[7], input, 'EX', lives)
    redis.call('HSET', KEYS[13], id, #input)
    redis.call('HINCRBY', KEYS[13], ALL, #input)
    redis.call('ZADD', KEYS[14], now + lives * 1000, id)
    for key = 13, 14 do
        if redis.call('TTL', KEYS[key]) < lives then redis.call('EXPIRE', KEYS[key], lives) end
    end
end

-- And by what it could be taken back: it does not wait any more, and will not again.
local function drop_input(id)
    redis.call('DEL', KEYS[7])
    redis.call('HDEL', KEYS[1], 'by')
    forget_bytes(id)
end
