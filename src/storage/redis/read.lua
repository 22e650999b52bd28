#!lua flags=allow-oom
-- The rows of one moment. KEYS: state, then the rows of each. ARGV: the run id, then the member of each.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return redis.error_reply('STATE the keyspace is not of this run')
end
local rows = {}
for n = 2, #KEYS do
  rows[n - 1] = redis.call('HGET', KEYS[n], ARGV[n])
end
return rows
