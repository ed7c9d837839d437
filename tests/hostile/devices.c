/* Root may make device nodes, and must not be able to open the host's devices through them. */

#include "attack.h"

#define S_IFBLK 0060000
#define S_IFCHR 0020000

static word device(word major, word minor)
{
	return (minor & 0xff) | major << 8 | (minor & ~0xffUL) << 12;
}

static void attack(int argc, char **argv)
{
	/* Disks, memory, FUSE's device, loop control, KVM, the console. */
	static const struct { word kind, major, minor; } nodes[] = {
		{ S_IFBLK, 8, 0 },   { S_IFBLK, 254, 0 }, { S_IFBLK, 253, 0 },	{ S_IFBLK, 7, 0 },  { S_IFBLK, 252, 0 },
		{ S_IFCHR, 1, 1 },   { S_IFCHR, 1, 4 },	  { S_IFCHR, 1, 11 },	{ S_IFCHR, 10, 229 }, { S_IFCHR, 10, 237 },
		{ S_IFCHR, 10, 232 }, { S_IFCHR, 5, 1 },  { S_IFCHR, 10, 203 }, { S_IFCHR, 1, 3 },
	};
	static const char *const places[] = { "/tmp/node", "/dev/node", "/dev/shm/node", "/node" };
	word node, place;

	(void)argc;
	(void)argv;
	for (node = 0; node < sizeof(nodes) / sizeof(*nodes); node++) {
		for (place = 0; place < sizeof(places) / sizeof(*places); place++) {
			CALL(__NR_unlink, places[place]);
			if (CALL(__NR_mknod, places[place], nodes[node].kind | 0666,
				 device(nodes[node].major, nodes[node].minor)) < 0)
				continue;
			refused(places[place], CALL(__NR_open, places[place], O_RDONLY | O_NONBLOCK), EACCES);
			refused(places[place], CALL(__NR_open, places[place], O_RDWR | O_NONBLOCK), EACCES);
		}
	}
	works("/dev/null", CALL(__NR_open, "/dev/null", O_RDWR));
	works("/dev/urandom", CALL(__NR_open, "/dev/urandom", O_RDONLY));
	refused("chmod of the null device's mount", CALL(__NR_mount, 0, "/dev/null", 0, 0x1020, 0), EPERM);
}
