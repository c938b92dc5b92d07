/* A module for tests: a type that holds one string, NOTE.SET key text and
 * NOTE.GET key. Modules find the server's functions by name, so the few that
 * are needed are declared here (redismodule.h of Redis lists all). */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define REDISMODULE_READ 1
#define REDISMODULE_WRITE 2

typedef struct {
	uint64_t version;
	void *(*rdb_load)(void *io, int encver);
	void (*rdb_save)(void *io, void *value);
	void (*aof_rewrite)(void *aof, void *key, void *value);
	size_t (*mem_usage)(const void *value);
	void (*digest)(void *digest, void *value);
	void (*free)(void *value);
} type_methods;

static int (*get_api)(const char *name, void *function);
static int (*set_attributes)(void *ctx, const char *name, int version, int api);
static int (*create_command)(void *ctx, const char *name, int (*f)(void *, void **, int), const char *flags, int first, int last, int step);
static void *(*create_type)(void *ctx, const char *name, int encver, type_methods *methods);
static void *(*open_key)(void *ctx, void *name, int mode);
static void (*close_key)(void *key);
static int (*set_value)(void *key, void *type, void *value);
static void *(*get_type)(void *key);
static void *(*get_value)(void *key);
static const char *(*string_ptr)(const void *s, size_t *length);
static int (*reply_string)(void *ctx, const char *text, size_t length);
static int (*reply_null)(void *ctx);
static int (*replicate_verbatim)(void *ctx);
static void *(*allocate)(size_t n);
static void (*release)(void *p);
static void (*save_unsigned)(void *io, uint64_t n);
static uint64_t (*load_unsigned)(void *io);
static void (*save_buffer)(void *io, const char *text, size_t length);
static char *(*load_buffer)(void *io, size_t *length);
static void (*save_double)(void *io, double d);
static double (*load_double)(void *io);

typedef struct {
	char *text;
	size_t length;
} note;

static void *note_type;

static void *load(void *io, int encver) {
	note *n = allocate(sizeof *n);
	if (load_unsigned(io) != 7 || encver != 1) return NULL;
	n->text = load_buffer(io, &n->length);
	return load_double(io) == 0.5 ? n : NULL;
}

static void save(void *io, void *value) {
	note *n = value;
	save_unsigned(io, 7);
	save_buffer(io, n->text, n->length);
	save_double(io, 0.5);
}

static void discard(void *value) {
	release(((note *)value)->text);
	release(value);
}

static int set(void *ctx, void **argv, int argc) {
	if (argc != 3) return 1;
	void *key = open_key(ctx, argv[1], REDISMODULE_READ | REDISMODULE_WRITE);
	note *n = allocate(sizeof *n);
	const char *text = string_ptr(argv[2], &n->length);
	n->text = allocate(n->length + 1);
	memcpy(n->text, text, n->length);
	set_value(key, note_type, n);
	close_key(key);
	replicate_verbatim(ctx);
	return reply_string(ctx, "OK", 2);
}

static int get(void *ctx, void **argv, int argc) {
	if (argc != 2) return 1;
	void *key = open_key(ctx, argv[1], REDISMODULE_READ);
	if (key == NULL || get_type(key) != note_type) {
		if (key != NULL) close_key(key);
		return reply_null(ctx);
	}
	note *n = get_value(key);
	int answer = reply_string(ctx, n->text, n->length);
	close_key(key);
	return answer;
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
	(void)argv, (void)argc;
	get_api = (int (*)(const char *, void *))(((void **)ctx)[0]);
	struct { const char *name; void *function; } needed[] = {
		{"RedisModule_SetModuleAttribs", &set_attributes}, {"RedisModule_CreateCommand", &create_command},
		{"RedisModule_CreateDataType", &create_type}, {"RedisModule_OpenKey", &open_key}, {"RedisModule_CloseKey", &close_key},
		{"RedisModule_ModuleTypeSetValue", &set_value}, {"RedisModule_ModuleTypeGetType", &get_type},
		{"RedisModule_ModuleTypeGetValue", &get_value}, {"RedisModule_StringPtrLen", &string_ptr},
		{"RedisModule_ReplyWithStringBuffer", &reply_string}, {"RedisModule_ReplyWithNull", &reply_null},
		{"RedisModule_ReplicateVerbatim", &replicate_verbatim}, {"RedisModule_Alloc", &allocate}, {"RedisModule_Free", &release},
		{"RedisModule_SaveUnsigned", &save_unsigned}, {"RedisModule_LoadUnsigned", &load_unsigned},
		{"RedisModule_SaveStringBuffer", &save_buffer}, {"RedisModule_LoadStringBuffer", &load_buffer},
		{"RedisModule_SaveDouble", &save_double}, {"RedisModule_LoadDouble", &load_double},
	};
	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
		if (get_api(needed[i].name, needed[i].function) != 0) return 1;
	set_attributes(ctx, "note", 1, 1);
	static type_methods methods = {.version = 1, .rdb_load = load, .rdb_save = save, .free = discard};
	note_type = create_type(ctx, "note-test", 1, &methods);
	if (note_type == NULL) return 1;
	return create_command(ctx, "note.set", set, "write deny-oom", 1, 1, 1) || create_command(ctx, "note.get", get, "readonly", 1, 1, 1);
}
