-- Write a job before fal is asked, so that whatever happens next, it is known; and count it against
-- all limits and budgets of its plan in the same step, so that no two calls take the same place.
-- A job that is there already (its webhook was faster, or this is said twice) is left as it is.
-- A direct run is written too, but is no job: nobody sees it, and no event tells of it.
-- KEYS[1..6] see emit.lua   KEYS[7..14] see keys.holding   KEYS[15] due
-- KEYS[16] jobs, principal  KEYS[17] jobs, team
-- KEYS[18..20] meters of principal, team, address   KEYS[21..22] spend of principal, team
-- ARGV[1] lifetime, s       ARGV[2] ask about it in, ms       ARGV[3] jobs listed at most
-- ARGV[4] id                ARGV[5] created, ms               ARGV[6] what is asked: see core.meters
-- ARGV[7] its input, if it may wait by now; else ''   ARGV[8] bytes of its input
-- ARGV[9] millionths of a dollar, and ARGV[10] of units, to be reserved
-- ARGV[11...] further fields of the job, name and value in turn
-- Returns {'opened', left, reset, left, reset ...}: for each limit how many more calls it takes, and
-- in how many ms it takes all; {'waiting', position, left, reset ...}; {'there'} if it was written
-- before, with its position if it was to wait then; or why nothing is written:
-- {'refused', which limit, ms}, {'spent', which budget, millionths left}, {'full', which bound of the
-- queue}, {'wait'}: say it again with the input.
if redis.call('EXISTS', KEYS[1]) == 1 then
    local waited = redis.call('HGET', KEYS[1], 'waited')
    return waited and { 'there', redis.call('ZRANK', KEYS[9], ARGV[4]) or 0 } or { 'there' }
end

local asked = cjson.decode(ARGV[6])
local METERS = { principal = KEYS[18], team = KEYS[19], address = KEYS[20] }
local SLOTS = { principal = KEYS[10], team = KEYS[11] }
local SPEND = { principal = KEYS[21], team = KEYS[22] }
local at, id = micros(), ARGV[4]
local today = 'j:' .. asked.day
local midnight = DAY * 1000 - now % (DAY * 1000) -- ms until the next one
local held = { usd = tonumber(ARGV[9]), units = tonumber(ARGV[10]) }
local arrivals, shadows = {}, {}

-- Each gives: whether one more may come, how many after it, and in how many ms it takes all again,
-- or, if it may not, one more.
local COUNT = {
    rate = function(limit)
        local key, name = METERS[limit.of], limit.field
        local tat = redis.call('HGET', key, name)
        local ok, new, retry, left = gcra(tonumber(tat or 0), at, limit.interval, limit.burst)
        if ok then arrivals[#arrivals + 1] = { key = key, name = name, tat = whole(new) } end
        return ok, left, math.ceil((ok and new - at or retry) / 1000)
    end,
    jobs = function(limit)
        local key = METERS[limit.of]
        local left = limit.amount - (redis.call('HGET', key, today) or 0)
        return left > 0, left - 1, midnight
    end,
    in_flight = function(limit)
        local key = SLOTS[limit.of]
        redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
        local left = limit.amount - redis.call('ZCARD', key)
        return left > 0, left - 1, 0
    end,
}

local function count_shadows()
    for _, limit in ipairs(shadows) do
        local key = METERS[limit.of]
        redis.call('HINCRBY', key, 's:' .. limit.name, 1)
    end
end

local queue, answer, wait = asked.queue, { 'opened' }, false
for index, limit in ipairs(asked.limits) do
    local ok, left, reset = COUNT[limit.measure](limit)
    if not ok then
        if limit.shadow then
            shadows[#shadows + 1] = limit
        elseif limit.measure == 'in_flight' and queue then
            wait = true
        else
            count_shadows()
            return { 'refused', index, reset }
        end
    end
    answer[#answer + 1] = math.max(0, left)
    answer[#answer + 1] = reset
end

for index, budget in ipairs(asked.budgets) do
    local key = SPEND[budget.of]
    local known = redis.call('HMGET', key, 'held:' .. budget.unit, budget.spent)
    local left = budget.amount - (known[1] or 0) - (known[2] or 0)
    if held[budget.unit] > left then
        if budget.shadow then
            shadows[#shadows + 1] = budget
        else
            count_shadows()
            return { 'spent', index, whole(math.max(0, left)) }
        end
    end
end

-- Nobody passes those of the same principal who wait, nor, where the team is bounded, its others.
if queue and not wait then
    wait = redis.call('ZCARD', KEYS[8]) > 0
        or queue.shared and redis.call('ZCARD', KEYS[9]) > 0
end
if wait then
    local bound = full(queue, id, math.max(#ARGV[7], ARGV[8]))
    if bound then
        count_shadows()
        return { 'full', bound }
    end
    if ARGV[7] == '' then return { 'wait' } end
end

count_shadows()
for _, arrival in ipairs(arrivals) do
    local key = arrival.key
    redis.call('HSET', key, arrival.name, arrival.tat)
end
for meter = 18, asked.address and 20 or 19 do
    redis.call('HINCRBY', KEYS[meter], today, 1)
    redis.call('EXPIRE', KEYS[meter], asked.meter_lives)
end
redis.call('HSET', KEYS[1], 'id', id, 'created', ARGV[5], 'state', 'queued', 'sign', now,
    unpack(ARGV, 11))
redis.call('EXPIRE', KEYS[1], ARGV[1])
for unit, amount in pairs(held) do
    if amount > 0 then
        redis.call('HSET', KEYS[1], 'held_' .. unit, whole(amount))
        for spend = 21, 22 do
            redis.call('HINCRBY', KEYS[spend], 'held:' .. unit, whole(amount))
            redis.call('EXPIRE', KEYS[spend], asked.spend_lives)
        end
    end
end
if not asked.run then
    for list = 16, 17 do
        redis.call('ZADD', KEYS[list], ARGV[5], id)
        redis.call('ZREMRANGEBYRANK', KEYS[list], 0, -1 - ARGV[3])
        redis.call('EXPIRE', KEYS[list], FEED_LIVES)
    end
    emit('job.created')
end
if wait then
    answer[1] = 'waiting'
    table.insert(answer, 2, join_queue(queue, id, ARGV[7]))
else
    hold_slots(id, ARGV[1] * 1000)
    redis.call('ZADD', KEYS[15], now + ARGV[2], id)
end
return answer
