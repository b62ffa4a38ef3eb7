-- Put before every script that lets jobs wait in the gateway's own queue, after emit.lua and inputs.lua.
-- Principals take turns: each job gets a number one turn (by weight, less) after its principal's last
-- one, or after the head of the queue where that is later, so that whoever has few jobs need not wait
-- for those of somebody who has many. Classes of priority lie one after the other.
-- KEYS[7] input    KEYS[8] waiting, principal   KEYS[9] waiting, team   KEYS[12] at fal
-- KEYS[15] due, and KEYS[1] the job
local CLASS = 1000000000 -- turns

-- Which of its bounds, in the order of core.meters.BOUNDS, has no room for one more, if one has none.
local function full(queue, id, bytes)
    if redis.call('ZCARD', KEYS[8]) >= queue.length then return 1 end
    if redis.call('ZCARD', KEYS[9]) >= queue.team_length then return 2 end
    if bytes_with(id, bytes) > queue.team_bytes then return 3 end
end

local function next_turn(queue)
    local low = queue.priority * CLASS
    local high = low + CLASS - 1
    local head = redis.call('ZRANGEBYSCORE', KEYS[9], low, high, 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local own = redis.call('ZREVRANGEBYSCORE', KEYS[8], high, low, 'WITHSCORES', 'LIMIT', 0, 1)[2]
    local last = math.max(tonumber(head or low), tonumber(own or low))
    return string.format('%.6f', math.min(high, last + 1 / queue.weight))
end

local function position(id)
    return redis.call('ZCARD', KEYS[12]) + redis.call('ZRANK', KEYS[9], id)
end

local function tell_place(place)
    redis.call('HSET', KEYS[1], 'position', place)
    emit('job.queued', { 'position', place })
end

-- Gives its position, once told. `input` is what fal is to get; it is kept for as long as the job may wait, and a while longer.
local function join_queue(queue, id, input)
    local turn, lives = next_turn(queue), math.ceil(queue.wait / 1000) + 3600
    keep_input(id, input, lives)
    redis.call('HSET', KEYS[1], 'waiting', 1, 'waited', 1)
    for list = 8, 9 do
        redis.call('ZADD', KEYS[list], turn, id)
        if redis.call('TTL', KEYS[list]) < lives then redis.call('EXPIRE', KEYS[list], lives) end
    end
    redis.call('ZADD', KEYS[15], now + queue.wait, id) -- due: it has waited long enough
    local place = position(id)
    tell_place(place)
    return place
end
