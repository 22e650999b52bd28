#!lua
-- What a connection begins with. KEYS: state, terms. ARGV: this process's run id, our schema, a fresh id, whether the
-- keyspace may be made, the term that the member knows.
-- Gives {} where there is nothing; else id, number and oldest of the schema, and, unless that is too new, the term, the writes so
-- far, and how the known term and the one after it began.
local state, terms = KEYS[1], KEYS[2]
if redis.call('EXISTS', state) == 0 then
  if ARGV[4] ~= 'make' then
    return {}
  end
  redis.call('HSET', state, 'id', ARGV[3], 'number', ARGV[2], 'oldest', ARGV[2], 'term', 0, 'written', 0)
end
local id, number, oldest = unpack(redis.call('HMGET', state, 'id', 'number', 'oldest'))
if not id or not oldest or tonumber(oldest) > tonumber(ARGV[2]) then
  return {id, number, oldest}
end
if redis.call('HGET', state, 'run') ~= ARGV[1] then
  local term = redis.call('HINCRBY', state, 'term', 1)
  redis.call('HSET', state, 'run', ARGV[1])
  redis.call('HSET', terms, term, ARGV[1] .. ' ' .. redis.call('HGET', state, 'written'))
  redis.call('HDEL', terms, term - 1000)
end
local term, written = unpack(redis.call('HMGET', state, 'term', 'written'))
local known, after = unpack(redis.call('HMGET', terms, ARGV[5], ARGV[5] + 1))
return {id, number, oldest, term, written, known, after}
