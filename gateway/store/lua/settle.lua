-- Be done with a job that has ended, or with a direct run: give back what it had reserved, count
-- what it did cost, and add to its end what its webhook did not tell. The only place where money
-- moves at an end, but for runs that held nothing (tally.lua). Said twice, or by two processes, it
-- counts once: it is settled then. Of a run only that is remembered, for a minute. Settling never
-- changes state or body.
-- KEYS[1] job   KEYS[2] result   KEYS[3] due   KEYS[4] people
-- KEYS[5..6] slots, KEYS[7..8] spend, KEYS[9..10] usage: of the principal, then of the team
-- ARGV[1] id   ARGV[2] endpoint   ARGV[3] state it ended in   ARGV[4] units, in millionths
-- ARGV[5] cost, in millionths of a dollar, or ''   ARGV[6] `kind:name`   ARGV[7] day, YYYYMMDD
-- ARGV[8] retention, s   ARGV[9] usage lives, s   ARGV[10] spend lives, s
-- ARGV[11] endpoints a day at most   ARGV[12] people at most
-- ARGV[13] 1 for a direct run
-- ARGV[14..16] the periods, by names without unit   ARGV[17..19] of each kind the oldest kept
-- ARGV[20] body or ''   ARGV[21] where the body is
-- ARGV[22...] fields of the job, name and value in turn
-- Returns 1 if this call settled it, 0 if it was, or there is nothing to settle.
local MINUTE = 60
local known = redis.call('HMGET', KEYS[1], 'settled', 'where', 'ended')
local run = ARGV[13] == '1' -- of one that nothing bounds there is no record
if known[1] == '1' or not run and known[1] ~= '0' then return 0 end

local function give_back(unit)
    local held = redis.call('HGET', KEYS[1], 'held_' .. unit)
    if not held or held == '0' then return end
    for spend = 7, 8 do
        if redis.call('HINCRBY', KEYS[spend], 'held:' .. unit, '-' .. held) < 0 then
            redis.call('HSET', KEYS[spend], 'held:' .. unit, 0) -- Redis had lost what was reserved
        end
    end
    redis.call('HDEL', KEYS[1], 'held_' .. unit)
end

local function complete()
    local time = redis.call('TIME')
    local age = time[1] - math.floor((known[3] or 0) / 1000)
    local left = math.max(MINUTE, ARGV[8] - age)
    if known[2] ~= 'stored' then
        if ARGV[21] == 'stored' then redis.call('SET', KEYS[2], ARGV[20], 'EX', left) end
        redis.call('HSET', KEYS[1], 'where', ARGV[21])
    end
    redis.call('HSET', KEYS[1], 'settled', 1, 'cost', ARGV[5], unpack(ARGV, 22))
    redis.call('EXPIRE', KEYS[1], left)
end

give_back('usd')
give_back('units')
local periods = {ARGV[14], ARGV[15], ARGV[16]}
local oldest = {ARGV[17], ARGV[18], ARGV[19]}
for key = 7, 8 do spend(KEYS[key], periods, oldest, ARGV[4], ARGV[5], ARGV[10]) end
local counts = {'jobs', '1', ARGV[3], '1', 'units', ARGV[4], 'cost', ARGV[5]}
for key = 9, 10 do count(KEYS[key], ARGV[2], counts, ARGV[11], ARGV[9]) end
remember(KEYS[4], ARGV[7], {ARGV[6]}, ARGV[12], ARGV[9])
redis.call('ZREM', KEYS[3], ARGV[1])
if run then
    for slots = 5, 6 do redis.call('ZREM', KEYS[slots], ARGV[1]) end
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'settled', 1)
    redis.call('EXPIRE', KEYS[1], MINUTE)
else
    complete()
end
return 1
