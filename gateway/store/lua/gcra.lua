-- Put before every script that counts rates (see connect.script): GCRA, as core/gcra.py has it.
-- Times are whole microseconds, and stay below 2^53: exact in Lua's numbers.

local function micros()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

-- May one more call come, when those before it fill the rate until `tat`? Each fills `interval`,
-- and they may run `burst` ahead of the clock (interval times the calls that may come at once).
-- Gives: whether; the new `tat`, as it was if not; how long to wait, 0 if it may; and how many
-- more calls may come at once after this.
local function gcra(tat, now, interval, burst)
    local from = math.max(tat or 0, now)
    local after = from + interval
    local retry = after - burst - now
    if retry > 0 then
        return false, from, retry, 0
    end
    return true, after, 0, math.floor(-retry / interval)
end

-- A number of microseconds as text: Lua's own form of it keeps 14 digits only.
local function whole(number)
    return string.format('%.0f', number)
end
