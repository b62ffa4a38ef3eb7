-- Count many direct runs of one team and one day that held nothing: what they did cost, and how
-- they ended. One process tells its batches in the order of their numbers. One that comes again,
-- since its answer got lost, counts once.
-- KEYS[1] the number of the last batch that this process told   KEYS[2] people
-- KEYS[3] spend, KEYS[4] usage: of the team; then those of each row's principal, in turn
-- ARGV[1] number   ARGV[2] the number is remembered, s   ARGV[3] day, YYYYMMDD
-- ARGV[4] usage lives, s   ARGV[5] spend lives, s
-- ARGV[6] endpoints a day at most   ARGV[7] people at most
-- ARGV[8..10] the periods, by names without unit   ARGV[11..13] of each kind the oldest kept
-- ARGV[14...] rows of nine: `kind:name`, endpoint, jobs, completed, failed, cancelled, expired,
-- units, cost
-- Returns 1, or 0 if it was counted before.
local ROW = 9

if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local periods = {ARGV[8], ARGV[9], ARGV[10]}
local oldest = {ARGV[11], ARGV[12], ARGV[13]}
local names = {}
for row = 0, (#ARGV - 13) / ROW - 1 do
    local name, endpoint, jobs, completed, failed, cancelled, expired, units, cost =
        unpack(ARGV, 14 + row * ROW, 13 + (row + 1) * ROW)
    local counts = {
        'jobs', jobs, 'completed', completed, 'failed', failed, 'cancelled', cancelled,
        'expired', expired, 'units', units, 'cost', cost,
    }
    names[#names + 1] = name
    for _, first in ipairs({3, 5 + row * 2}) do
        spend(KEYS[first], periods, oldest, units, cost, ARGV[5])
        count(KEYS[first + 1], endpoint, counts, ARGV[6], ARGV[4])
    end
end
remember(KEYS[2], ARGV[3], names, ARGV[7], ARGV[4])
return 1
