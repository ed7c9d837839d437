/* No attack: a program of the C library with threads, which tries clone3 first. */

#include <pthread.h>
#include <stdio.h>

static void *add(void *sum)
{
	__atomic_fetch_add((int *)sum, 1, __ATOMIC_RELAXED);
	return NULL;
}

int main(void)
{
	pthread_t threads[16];
	int sum = 0, at;

	for (at = 0; at < 16; at++)
		if (pthread_create(&threads[at], NULL, add, &sum))
			return 1;
	for (at = 0; at < 16; at++)
		pthread_join(threads[at], NULL);
	printf("%d\n", sum);
	return 0;
}
