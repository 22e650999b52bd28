#!lua
-- All or nothing. KEYS: state, then rows and order of each operation. ARGV: the run id, the transaction's version, then of each
-- operation its member, what is expected (`*` is anything, empty a missing row, else a version), what becomes of it (`c` nothing, `p` a
-- row, `d` deleted) and the row. Gives the number of the operation that isn't as expected, or 0, then that row or how many
-- writes there were. A server refuses a script before its first write or not at all, but for rights, which are looked at before.
if redis.call('HGET', KEYS[1], 'run') ~= ARGV[1] then
  return redis.error_reply('STATE the keyspace is not of this run')
end
local version, count = ARGV[2], (#KEYS - 1) / 2
local writes, allowed = count == 0, redis.acl_check_cmd('HINCRBY', KEYS[1], 'written', 1)
local refused, current, applied, is_new = 0, false, false, {}
for n = 1, count do
  local at, rows, order = 4 * n - 1, KEYS[2 * n], KEYS[2 * n + 1]
  local member, expected, effect = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local row = redis.call('HGET', rows, member)
  local is = row and string.sub(row, 1, 16) or ''
  is_new[n] = not row
  if effect == 'p' then
    writes = true
    -- No other transaction has our version: this one was sent before, and applied.
    applied = applied or is == version
    allowed = allowed and redis.acl_check_cmd('HSET', rows, member, '') and redis.acl_check_cmd('ZADD', order, 0, member)
  elseif effect == 'd' then
    writes = true
    allowed = allowed and redis.acl_check_cmd('HDEL', rows, member) and redis.acl_check_cmd('ZREM', order, member)
  end
  if refused == 0 and expected ~= '*' and expected ~= is then
    refused, current = n, row
  end
end
if refused > 0 and not applied then
  return {refused, current}
end
if not writes then
  return {0, redis.call('HGET', KEYS[1], 'written')}
end
if not allowed then
  return redis.error_reply('NOPERM a right to change the rows is missing')
end
for n = 1, refused == 0 and count or 0 do
  local at, rows, order = 4 * n - 1, KEYS[2 * n], KEYS[2 * n + 1]
  local member, effect = ARGV[at], ARGV[at + 2]
  if effect == 'p' then
    if is_new[n] then
      redis.call('ZADD', order, 0, member)
    end
    redis.call('HSET', rows, member, version .. ARGV[at + 3])
  elseif effect == 'd' and not is_new[n] then
    redis.call('HDEL', rows, member)
    redis.call('ZREM', order, member)
  end
end
-- In any case, so that WAIT waits for what was applied before, too.
return {0, redis.call('HINCRBY', KEYS[1], 'written', 1)}
