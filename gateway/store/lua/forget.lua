-- Forget teams whose queues are empty, unless somebody has said since that he may join one.
-- KEYS[1] queues
-- ARGV[1] said before, Unix seconds   ARGV[2...] teams
-- Returns how many are forgotten.
local gone = 0
for index = 2, #ARGV do
    local said = redis.call('ZSCORE', KEYS[1], ARGV[index])
    if said and tonumber(said) < tonumber(ARGV[1]) then
        gone = gone + redis.call('ZREM', KEYS[1], ARGV[index])
    end
end
return gone
