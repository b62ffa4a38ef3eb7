-- Put before every script that counts jobs in flight, after emit.lua. Each has a time until which it
-- counts, so that no place is lost for good.
-- KEYS[10] slots, principal   KEYS[11] slots, team   KEYS[12] at fal
local DAY = 86400 -- seconds

local function hold_slots(id, lives)
    for list = 10, 11 do
        redis.call('ZADD', KEYS[list], now + lives, id)
        redis.call('EXPIRE', KEYS[list], math.ceil(lives / 1000))
    end
end

-- Only those that still count.
local function move_slots(id, lives)
    for list = 10, 11 do redis.call('ZADD', KEYS[list], 'XX', now + lives, id) end
end

local function free_slots(id)
    for list = 10, 11 do redis.call('ZREM', KEYS[list], id) end
end

-- What the team has in fal's queue is ahead of whoever waits in the gateway's.
local function queued_at_fal(id, yes)
    if yes then
        redis.call('ZREMRANGEBYSCORE', KEYS[12], '-inf', now)
        redis.call('ZADD', KEYS[12], now + DAY * 1000, id)
        redis.call('EXPIRE', KEYS[12], DAY)
    else
        redis.call('ZREM', KEYS[12], id)
    end
end
