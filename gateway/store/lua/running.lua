-- How many places at an account of fal's are taken.
-- KEYS[1] slots
-- Returns it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], '(' .. string.format('%d', now), '+inf')
