package offsets

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"twinlog/internal/scope"
)

// Emptying are the commands that remove, of a site, what is in scope there and
// the link's own keys in database 0, which is the one selected before and
// after.
func Emptying(s *scope.Scope, link string) [][]string {
	if s.Databases == nil && !s.Keyed() {
		return [][]string{{"FLUSHALL", "ASYNC"}}
	}
	var commands [][]string
	if !s.Keyed() {
		for _, db := range s.Databases {
			commands = append(commands, []string{"SELECT", strconv.Itoa(int(db))}, []string{"FLUSHDB", "ASYNC"})
		}
	}
	commands = append(commands, []string{"SELECT", "0"}, []string{"EVAL", removeMatching, "0", "0", "1", Reserved + link + ":*"})
	if !s.Keyed() {
		return commands
	}
	include := s.Include
	if len(include) == 0 {
		include = []string{"*"}
	}
	databases := make([]string, 0, len(s.Databases)) // none: all
	for _, db := range s.Databases {
		databases = append(databases, strconv.Itoa(int(db)))
	}
	exclude := append([]string{Reserved + "*"}, s.Exclude...)
	return append(commands, slices.Concat([]string{"EVAL", removeMatching, "0", strings.Join(databases, " "), strconv.Itoa(len(include))}, include, exclude), []string{"SELECT", "0"})
}

// RefuseOtherLinks refuses to empty database 0 of a site where other links go by
// what they keep there. Scan visits the keys there that match a pattern.
func RefuseOtherLinks(s *scope.Scope, link, site string, scan func(match string, visit func(key []byte) error) error) error {
	if s.Keyed() || !s.HasDB(0) { // other links' keys stay
		return nil
	}
	return scan(Reserved+"*", func(key []byte) error {
		if strings.HasPrefix(string(key), Reserved+link+":") || string(key) == Nothing {
			return nil
		}
		return fmt.Errorf("site %s carries the mark %q of another link, which emptying it would lose: end that link and delete its keys there, then resync again", site, key)
	})
}

// removeMatching removes the keys that match a pattern and none of those to be
// excluded. ARGV: the databases, apart by spaces, empty for all that hold
// something; how many patterns follow; these; those to be excluded. It walks
// through the databases at once, so that no write slips in between: the server
// waits for it about a second per million keys. It names a key too many in each
// deletion, which tells it from what the site deletes by itself.
const removeMatching = `
local function each(pattern, visit)
  local cursor = '0'
  repeat
    local reply = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
    cursor = reply[1]
    for _, key in ipairs(reply[2]) do visit(key) end
  until cursor == '0'
end
local databases = {}
for db in string.gmatch(ARGV[1], '%d+') do table.insert(databases, db) end
if ARGV[1] == '' then
  for db in string.gmatch(redis.call('INFO', 'keyspace'), 'db(%d+):') do table.insert(databases, db) end
end
local removed, included = 0, tonumber(ARGV[2])
local function remove(keys)
  if #keys == 0 then return end
  removed = removed + redis.call('UNLINK', '` + Nothing + `', unpack(keys))
end
for _, db in ipairs(databases) do
  redis.call('SELECT', db)
  local excluded = {}
  for i = 3 + included, #ARGV do each(ARGV[i], function(key) excluded[key] = true end) end
  for i = 3, 2 + included do
    local keys = {}
    each(ARGV[i], function(key)
      if excluded[key] then return end
      table.insert(keys, key)
      if #keys == 1000 then
        remove(keys)
        keys = {}
      end
    end)
    remove(keys)
  end
end
return removed`
