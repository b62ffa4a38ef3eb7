-- Put before every script that counts what calls did cost. Amounts are whole numbers as text:
-- millionths of a unit and of a dollar, the latter '' where no price is known.
local PARTS = 14 -- sums of one spender: what it holds, its three periods, and those before them

local function add(key, field, amount)
    if amount ~= '' and amount ~= '0' then redis.call('HINCRBY', key, field, amount) end
end

local function trim(key, oldest)
    for _, field in ipairs(redis.call('HKEYS', key)) do
        for _, least in ipairs(oldest) do
            if field:sub(1, 2) == least:sub(1, 2) and field < least then
                redis.call('HDEL', key, field)
            end
        end
    end
end

-- To what was spent in each of `periods`, by names without unit; `oldest` of each kind is kept.
local function spend(key, periods, oldest, units, cost, lives)
    for _, period in ipairs(periods) do
        add(key, period .. ':units', units)
        add(key, period .. ':usd', cost)
    end
    if redis.call('HLEN', key) > PARTS then trim(key, oldest) end
    redis.call('EXPIRE', key, lives)
end

-- To one day's usage; `counts` has names and amounts in turn. Beyond `most` endpoints it is `other`.
local function count(key, endpoint, counts, most, lives)
    if redis.call('HEXISTS', key, endpoint .. ' jobs') == 0 then
        if tonumber(redis.call('HGET', key, 'endpoints') or 0) < tonumber(most) then
            redis.call('HINCRBY', key, 'endpoints', 1)
        else
            endpoint = 'other'
        end
    end
    for at = 1, #counts, 2 do add(key, endpoint .. ' ' .. counts[at], counts[at + 1]) end
    redis.call('EXPIRE', key, lives)
end

-- Whose usage can be listed, by the last day that each was seen; `names` are `kind:name`.
local function remember(key, day, names, most, lives)
    for _, name in ipairs(names) do redis.call('ZADD', key, 'GT', day, name) end
    redis.call('ZREMRANGEBYRANK', key, 0, -1 - most)
    redis.call('EXPIRE', key, lives)
end

