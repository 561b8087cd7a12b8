"""The writes. Each is one script, so that a change and its entry in the change log appear together.

``EMIT`` is put before every script: it makes the epoch on first use, numbers the change and appends the entry. The
epoch shows followers that Redis was emptied or failed over to an older state.

Fencing: an owner's write names the owner, and is refused (0) if the upstream has another owner by now.
"""

EMIT = """
local P = ARGV[1]
local function emit(kind, id)
  local epoch = redis.call('GET', P..'epoch')
  if not epoch then
    local t = redis.call('TIME')
    epoch = t[1]..'-'..t[2]
    redis.call('SET', P..'epoch', epoch)
    redis.call('DEL', P..'seq')
  end
  local seq = redis.call('INCR', P..'seq')
  redis.call('XADD', P..'changes', 'MAXLEN', '~', 4096, '*', 'epoch', epoch, 'seq', seq, 'kind', kind, 'id', id)
  return seq
end
"""

# What was approved of a group's tools is forgotten with its last upstream that is pinned.
FORGET_PINS = """
local function forget_pins(group)
  if redis.call('EXISTS', P..'pins:'..group) == 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', P..'servers', 0, -1)) do
    local one = redis.call('HMGET', P..'server:'..id, 'name', 'pin')
    if one[1] == group and one[2] and one[2] ~= '' then return end
  end
  redis.call('DEL', P..'pins:'..group)
  emit('pins', group)
end
"""

# ARGV: prefix, id, mode (create | replace | update | restore), now, 1 if it runs on one worker only else 0, field, …
REGISTER = (
    EMIT
    + FORGET_PINS
    + """
local id, mode, key = ARGV[2], ARGV[3], P..'server:'..ARGV[2]
local exists = redis.call('EXISTS', key) == 1
if exists and mode == 'create' then return 'exists' end
if exists and mode == 'restore' then return 'exists' end
if not exists and mode == 'update' then return 'missing' end
if not redis.call('ZSCORE', P..'servers', id) then
  redis.call('ZADD', P..'servers', redis.call('INCR', P..'server_seq'), id)
end
if not exists then
  redis.call('HSET', key, 'status', 'registered', 'status_since', ARGV[4], 'registered_at', ARGV[4])
end
local revision = redis.call('HINCRBY', key, 'revision', 1)
for field = 6, #ARGV - 1, 2 do  -- what was found at another address, or by other means, is not true here
  if (ARGV[field] == 'connection' or ARGV[field] == 'connection_mark') and exists
    and (redis.call('HGET', key, ARGV[field]) or '') ~= ARGV[field + 1] then
    redis.call('HDEL', key, 'eras', 'sessionful', 'protocol_version', 'transport_in_use', 'url_in_use', 'capabilities',
      'instructions')
    redis.call('HSET', key, 'status', 'registered', 'status_since', ARGV[4])
  end
end
if ARGV[5] == '1' then
  for slot = 1, 15 do redis.call('HDEL', key, 'owner:'..slot) end
end
local before = redis.call('HGET', key, 'name')
redis.call('HSET', key, unpack(ARGV, 6))
emit('server', id)
if before then forget_pins(before) end
return 'ok'
"""
)

# ARGV: prefix, id, duty, now → nil if there is no such upstream, else 1 if that is new. What is enabled again begins
# anew: what was found out of it before it stopped may be long over.
DUTY = (
    EMIT
    + """
local id, duty, key = ARGV[2], ARGV[3], P..'server:'..ARGV[2]
if redis.call('EXISTS', key) == 0 then return false end
local before = redis.call('HGET', key, 'duty') or 'active'
if before == duty then return 0 end
redis.call('HSET', key, 'duty', duty)
if duty == 'disabled' then redis.call('HSET', key, 'status_since', ARGV[4])
elseif before == 'disabled' then
  redis.call('HSET', key, 'status', 'registered', 'status_since', ARGV[4], 'error', '')
end
emit('server', id)
return 1
"""
)

# ARGV: prefix, id
UNREGISTER = (
    EMIT
    + FORGET_PINS
    + """
local id = ARGV[2]
local group = redis.call('HGET', P..'server:'..id, 'name')
if redis.call('DEL', P..'server:'..id) == 0 then return 0 end
redis.call('ZREM', P..'servers', id)
redis.call('DEL', P..'catalog:'..id, P..'health:'..id, P..'logs:'..id, P..'credentials:'..id)
emit('server', id)
if group then forget_pins(group) end
return 1
"""
)

# ARGV: prefix, id, slot, worker → 'mine' | 'claimed' | 'taken' | 'gone'
# ARGV[5]: 1 if the upstream runs on one worker only. Its connection ended with its owner, so it is not connected: calls
# wait until the new owner says that it is.
CLAIM = (
    EMIT
    + """
local id, slot, me, key = ARGV[2], ARGV[3], ARGV[4], P..'server:'..ARGV[2]
if redis.call('EXISTS', key) == 0 then return 'gone' end
local owner = redis.call('HGET', key, 'owner:'..slot)
if owner == me then return 'mine' end
if owner and redis.call('EXISTS', P..'worker:'..owner) == 1 then return 'taken' end
if redis.call('EXISTS', P..'worker:'..me) == 0 then return 'taken' end
redis.call('HSET', key, 'owner:'..slot, me)
if ARGV[5] == '1' and redis.call('HGET', key, 'status') == 'connected' then
  local now = redis.call('TIME')
  redis.call('HSET', key, 'status', 'connecting', 'status_since', now[1], 'error', '')
end
emit('server', id)
return 'claimed'
"""
)

# ARGV: prefix, id, slot, worker, new owner or ''
RELEASE = (
    EMIT
    + """
local id, slot, me, heir, key = ARGV[2], ARGV[3], ARGV[4], ARGV[5], P..'server:'..ARGV[2]
if redis.call('HGET', key, 'owner:'..slot) ~= me then return 0 end
if heir ~= '' then redis.call('HSET', key, 'owner:'..slot, heir)
else redis.call('HDEL', key, 'owner:'..slot) end
emit('server', id)
return 1
"""
)

# ARGV: prefix, id, worker, now, status, field, value, …   (the owner of slot 0 reports)
# Only differences are announced, so an upstream that stays down causes no entry at every attempt.
REPORT = (
    EMIT
    + """
local id, me, now, status, key = ARGV[2], ARGV[3], ARGV[4], ARGV[5], P..'server:'..ARGV[2]
if redis.call('HGET', key, 'owner:0') ~= me then return 0 end
local news = false
if redis.call('HGET', key, 'status') ~= status then
  redis.call('HSET', key, 'status', status, 'status_since', now)
  news = true
end
for i = 6, #ARGV, 2 do
  if redis.call('HGET', key, ARGV[i]) ~= ARGV[i + 1] then
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    news = true
  end
end
if news then emit('server', id) end
return 1
"""
)

# ARGV: prefix, id, worker, announced methods (comma-separated; logged even if the digest is equal), digest, field, …
CATALOG = (
    EMIT
    + """
local id, me, announced, digest, key = ARGV[2], ARGV[3], ARGV[4], ARGV[5], P..'catalog:'..ARGV[2]
if redis.call('HGET', P..'server:'..id, 'owner:0') ~= me then return 0 end
local same = redis.call('HGET', key, 'digest') == digest
if not same then redis.call('DEL', key) end
redis.call('HSET', key, 'digest', digest, unpack(ARGV, 6))
if not same then emit('catalog', id) end
for method in string.gmatch(announced, '[^,]+') do emit('announced:'..method, id) end
return 1
"""
)

# ARGV: prefix, sid, ttl in ms, front end to wake or '', most messages to keep or 0 (all), most bytes to keep, number of
# messages dropped on the way here, then kind (told | kept), message and its signature, … → messages and bytes there
# before.
# The oldest messages of kind "told" (notifications) make room. Messages are numbered, so that the front end that takes
# them sees how many are missing.
LEAVE = """
local P, sid, ttl, to, count, bytes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local key, state = P..'outbox:'..sid, P..'outbox:'..sid..':state'
local before = redis.call('XLEN', key)
if before == 0 then redis.call('HSET', state, 'bytes', 0) end
local heavy = tonumber(redis.call('HGET', state, 'bytes')) or 0
redis.call('HINCRBY', state, 'seq', ARGV[7])
local left = before
if count > 0 then  -- nobody comes back for what is older than it is kept
  local now = redis.call('TIME')
  local old = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) - ttl)
  for _, entry in ipairs(redis.call('XRANGE', key, '-', old)) do
    redis.call('XDEL', key, entry[1])
    redis.call('HINCRBY', state, 'bytes', -#entry[2][4])
    left = left - 1
  end
end
for at = 8, #ARGV - 2, 3 do
  local message = ARGV[at + 1]
  local held = redis.call('HINCRBY', state, 'bytes', #message)
  left = left + 1
  local from = '-'
  while count > 0 and (left > count or held > bytes) do
    local oldest = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
    if not oldest then break end
    if oldest[2][2] == 'told' then
      redis.call('XDEL', key, oldest[1])
      held, left = redis.call('HINCRBY', state, 'bytes', -#oldest[2][4]), left - 1
    end
    from = '('..oldest[1]
  end
  redis.call('XADD', key, '*', 'kind', ARGV[at], 'message', message, 'seq', redis.call('HINCRBY', state, 'seq', 1),
    'signature', ARGV[at + 2])
end
redis.call('PEXPIRE', state, ttl)
redis.call('PEXPIRE', key, ttl)
if to ~= '' then redis.call('PUBLISH', P..'wake:'..to, 'outbox '..sid) end
return {before, heavy}
"""

# ARGV: prefix, set of members, then the id and the key of the record of each that seems to have expired. One that has
# joined anew meanwhile stays in the set.
EXPIRED = """
for at = 3, #ARGV, 2 do
  if redis.call('EXISTS', ARGV[at + 1]) == 0 then redis.call('SREM', ARGV[2], ARGV[at]) end
end
return 1
"""

# ARGV: prefix, key of a member's record, its TTL in ms, field, value, … → 0, and nothing written, if it has expired
BEAT = """
if redis.call('EXISTS', ARGV[2]) == 0 then return 0 end
redis.call('HSET', ARGV[2], unpack(ARGV, 4))
redis.call('PEXPIRE', ARGV[2], ARGV[3])
return 1
"""

# ARGV: prefix, sid, its TTL in ms, field, value, … → 0, and nothing written, if the session has ended
SAVE = """
local P, sid = ARGV[1], ARGV[2]
if redis.call('EXISTS', P..'ended:'..sid) == 1 then return 0 end
redis.call('HSET', P..'session:'..sid, unpack(ARGV, 4))
redis.call('PEXPIRE', P..'session:'..sid, ARGV[3])
return 1
"""

# ARGV: prefix, sid, id of the last entry of the outbox that was delivered; entries up to this one are deleted
CLEAR = """
local P, sid = ARGV[1], ARGV[2]
local key = P..'outbox:'..sid
for _, entry in ipairs(redis.call('XRANGE', key, '-', ARGV[3])) do
  redis.call('XDEL', key, entry[1])
  redis.call('HINCRBY', key..':state', 'bytes', -#entry[2][4])
end
"""

# ARGV: prefix, sid, ttl in ms, field, value → the value before; nil, and nothing written, if the session is over
NOTE = """
local P = ARGV[1]
local key = P..'session:'..ARGV[2]
if redis.call('EXISTS', key) == 0 then return false end
local before = redis.call('HGET', key, ARGV[4]) or ''
redis.call('HSET', key, ARGV[4], ARGV[5])
redis.call('PEXPIRE', key, ARGV[3])
return before
"""

# ARGV: prefix, sid, ttl in ms, field, replica, the replica to replace or '' → the replica that is bound; nil if over
PIN = """
local P = ARGV[1]
local key = P..'session:'..ARGV[2]
if redis.call('EXISTS', key) == 0 then return false end
local bound = redis.call('HGET', key, ARGV[4])
if not bound or bound == ARGV[6] then
  bound = ARGV[5]
  redis.call('HSET', key, ARGV[4], bound)
end
redis.call('PEXPIRE', key, ARGV[3])
return bound
"""

# ARGV: prefix, name, record, most keys → 'ok' | 'exists' | 'full'
KEY_ADD = (
    EMIT
    + """
local key = P..'api_keys'
if redis.call('HLEN', key) >= tonumber(ARGV[4]) then return 'full' end
if redis.call('HSETNX', key, ARGV[2], ARGV[3]) == 0 then return 'exists' end
emit('key', ARGV[2])
return 'ok'
"""
)

# ARGV: prefix, name
KEY_REMOVE = (
    EMIT
    + """
if redis.call('HDEL', P..'api_keys', ARGV[2]) == 0 then return 0 end
emit('key', ARGV[2])
return 1
"""
)

# ARGV: prefix, name, record, source (file | api), most records → 'made' | 'changed' | 'same' | 'declared' | 'full'
# A record begins with its source. What a file declares, only a file changes.
VIRTUAL_PUT = (
    EMIT
    + """
local key = P..'virtual'
local before = redis.call('HGET', key, ARGV[2])
if before == ARGV[3] then return 'same' end
if before and ARGV[4] ~= 'file' and string.sub(before, 1, 16) == '{"source":"file"' then return 'declared' end
if not before and redis.call('HLEN', key) >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', key, ARGV[2], ARGV[3])
emit('virtual', ARGV[2])
if before then return 'changed' end
return 'made'
"""
)

# ARGV: prefix, name, source (file | api) → 'ok' | 'missing' | 'declared'
VIRTUAL_REMOVE = (
    EMIT
    + """
local key = P..'virtual'
local before = redis.call('HGET', key, ARGV[2])
if not before then return 'missing' end
if ARGV[3] ~= 'file' and string.sub(before, 1, 16) == '{"source":"file"' then return 'declared' end
redis.call('HDEL', key, ARGV[2])
emit('virtual', ARGV[2])
return 'ok'
"""
)

# ARGV: prefix, group, since, id of an upstream of it or '' (what was known is written back), tool, record, …
# → 1 if these are the pins of the group from now on. The first ones stay, but those that were made earlier come back.
PINS_BEGIN = (
    EMIT
    + """
local group, since, id, key = ARGV[2], tonumber(ARGV[3]), ARGV[4], P..'pins:'..ARGV[2]
if id ~= '' and (redis.call('HGET', P..'server:'..id, 'pin') or '') == '' then return 0 end
local there = redis.call('HGET', key, 'since')
if there and (id ~= '' or tonumber(there) <= since) then return 0 end
redis.call('DEL', key)
redis.call('HSET', key, 'since', ARGV[3])
for at = 5, #ARGV - 1, 2 do redis.call('HSET', key, 'tool:'..ARGV[at], ARGV[at + 1]) end
emit('pins', group)
return 1
"""
)

# ARGV: prefix, group, tool, record, most tools → 'ok' | 'missing' (the group has no pins) | 'full'
PIN_APPROVE = (
    EMIT
    + """
local key, field = P..'pins:'..ARGV[2], 'tool:'..ARGV[3]
if redis.call('EXISTS', key) == 0 then return 'missing' end
if redis.call('HEXISTS', key, field) == 0 and redis.call('HLEN', key) > tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', key, field, ARGV[4])
emit('pins', ARGV[2])
return 'ok'
"""
)

# ARGV: prefix, group, tool → 0 if nothing was approved of this tool
PIN_WITHDRAW = (
    EMIT
    + """
if redis.call('HDEL', P..'pins:'..ARGV[2], 'tool:'..ARGV[3]) == 0 then return 0 end
emit('pins', ARGV[2])
return 1
"""
)
# ARGV: prefix, limit, most tokens, tokens per ms, wanted → granted, ms until the next one, number of front ends
# A bucket of tokens (one for each limit and principal), from which front ends take several at once.
TAKE_TOKENS = """
local P, most, rate, wanted = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local key = P..'tokens:'..ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local held = redis.call('HMGET', key, 'tokens', 'at')
local tokens, at = tonumber(held[1]) or most, tonumber(held[2]) or now
tokens = math.min(most, tokens + math.max(0, now - at) * rate)
local granted = math.max(0, math.min(wanted, math.floor(tokens)))
tokens = tokens - granted
redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.3f', now))
redis.call('PEXPIRE', key, math.ceil((most - tokens) / rate) + 1000)
local wait = 0
if tokens < 1 then wait = math.ceil((1 - tokens) / rate) end
return {granted, wait, redis.call('SCARD', P..'frontends')}
"""

# ARGV: prefix, limit, most slots, front end, slots that it wants to hold in all → slots that it holds, number of front
# ends. What front ends held that are gone is free.
HOLD_SLOTS = """
local P, most, me, wanted = ARGV[1], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local key = P..'slots:'..ARGV[2]
local others = 0
local held = redis.call('HGETALL', key)
for at = 1, #held, 2 do
  if held[at] ~= me then
    if redis.call('EXISTS', P..'frontend:'..held[at]) == 1 then others = others + tonumber(held[at + 1])
    else redis.call('HDEL', key, held[at]) end
  end
end
local granted = math.max(0, math.min(wanted, most - others))
if granted > 0 then
  redis.call('HSET', key, me, granted)
  redis.call('PEXPIRE', key, 86400000)
else redis.call('HDEL', key, me) end
return {granted, redis.call('SCARD', P..'frontends')}
"""
# ARGV: prefix, key, holder
UNLOCK = "if redis.call('GET', ARGV[2]) == ARGV[3] then return redis.call('DEL', ARGV[2]) end return 0"

# ARGV: prefix, key of a hash, field, value that it has, value that it shall have → 0 if it has another one by now
RENEW = """
if redis.call('HGET', ARGV[2], ARGV[3]) ~= ARGV[4] then return 0 end
redis.call('HSET', ARGV[2], ARGV[3], ARGV[5])
return 1
"""

# ARGV: prefix, key of a dead member's record, key of the set of members, kind, id, when it joined → 0 if the record was
# gone already, -1 if the member has joined anew and lives
BURY = (
    EMIT
    + """
local joined = redis.call('HGET', ARGV[2], 'joined_at')
if ARGV[6] and joined and joined ~= ARGV[6] then return -1 end
redis.call('SREM', ARGV[3], ARGV[5])
if redis.call('DEL', ARGV[2]) == 0 then return 0 end
emit(ARGV[4], ARGV[5])
return 1
"""
)

# ARGV: prefix, key of a member's record, kind, id, field, value or ''
MARK = (
    EMIT
    + """
if redis.call('EXISTS', ARGV[2]) == 0 then return 0 end
if ARGV[6] == '' then redis.call('HDEL', ARGV[2], ARGV[5]) else redis.call('HSET', ARGV[2], ARGV[5], ARGV[6]) end
emit(ARGV[3], ARGV[4])
return 1
"""
)

# ARGV: prefix, kind, id
ANNOUNCE = EMIT + "return emit(ARGV[2], ARGV[3])"

# ARGV: prefix, sid
END_SESSION = (
    EMIT
    + """
redis.call('DEL', P..'session:'..ARGV[2], P..'outbox:'..ARGV[2], P..'outbox:'..ARGV[2]..':state')
redis.call('SET', P..'ended:'..ARGV[2], 1, 'PX', 60000)  -- a front end that has not heard yet must not write it back
return emit('session', ARGV[2])
"""
)

# ARGV: prefix, id, … → for each, what its last probe found, all as one MessagePack array: a client takes six times as
# long to read an answer of its own for each. A read, and no write.
HEALTHS = """
local P, found = ARGV[1], {}
for at = 2, #ARGV do
  found[at - 1] = redis.call('HMGET', P..'health:'..ARGV[at], 'healthy', 'latency_ms', 'error', 'checked_at')
end
return cmsgpack.pack(found)
"""
