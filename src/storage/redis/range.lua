#!lua flags=allow-oom
-- A piece of the order. KEYS: state, rows, order. ARGV: the run id, the bounds as ZRANGEBYLEX has them, how many, bytes after which
-- it ends. Gives whether it may go on, then member and row by turns.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return redis.error_reply('STATE the keyspace is not of this run')
end
local limit, room = tonumber(ARGV[4]), tonumber(ARGV[5])
local members = redis.call('ZRANGEBYLEX', KEYS[3], ARGV[2], ARGV[3], 'LIMIT', 0, limit + 1)
local found = {0}
for n, member in ipairs(members) do
  if n > limit or room <= 0 then
    found[1] = 1
    break
  end
  local row = redis.call('HGET', KEYS[2], member)
  if row then
    found[#found + 1] = member
    found[#found + 1] = row
    room = room - #row
  end
end
return found
