-- Tell a waiting job's place in the queue, if it is another than was told last.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding
-- ARGV[1] id
-- Returns 1 if it was told.
local known = redis.call('HMGET', KEYS[1], 'state', 'waiting', 'cancel', 'position')
if known[1] ~= 'queued' or known[2] ~= '1' or known[3] == '1' then return 0 end
local place = position(ARGV[1])
if tostring(place) == known[4] then return 0 end
tell_place(place)
return 1
