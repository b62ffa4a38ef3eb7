-- A job, for somebody who asks for it by its id. Of another's it tells what it tells of none, and
-- takes as long: what comes of the job itself, its log lines or its place, is for who may see it.
-- KEYS[1] job   KEYS[2] its log lines
-- ARGV[1] team   ARGV[2] kind and ARGV[3] name of whose it must be; both '' for anybody's of the team
-- ARGV[4] '1' with log lines
-- Returns {names and values in turn, lines}; both are empty where there is nothing to see.
local whose = redis.call('HMGET', KEYS[1], 'team', 'kind', 'name')
local own = ARGV[2] == '' or whose[2] == ARGV[2] and whose[3] == ARGV[3]
if whose[1] ~= ARGV[1] or not own then return { {}, {} } end
local lines = {}
if ARGV[4] == '1' then lines = redis.call('ZRANGE', KEYS[2], 0, -1) end
return { redis.call('HGETALL', KEYS[1]), lines }
