"""What must be one step in Redis: a check of who holds an entry, and what follows from it."""

from typing import Final

# KEYS: stream. ARGV: group, consumer, idle in ms, ids. An entry that somebody else took meanwhile, after we
# had been silent for too long, stays his.
REFRESH: Final = """
local mine = {}
for i = 4, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if held[1] and held[1][2] == ARGV[2] then mine[#mine + 1] = ARGV[i] end
end
if #mine > 0 then
  local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
  for _, id in ipairs(mine) do claim[#claim + 1] = id end
  for _, word in ipairs({'IDLE', ARGV[3], 'JUSTID'}) do claim[#claim + 1] = word end
  redis.call(unpack(claim))
end
return #mine
"""

# KEYS: stream. ARGV: group, consumer. Deleting one that holds entries would lose them.
DELETE_CONSUMER: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
