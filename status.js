'use strict';
// Keeps the page fresh: it fetches the page again and replaces what is in <main>. Without
// this script the browser loads the page anew every ten seconds.

const every = 3000; // milliseconds between two fetches
const lost = document.getElementById('lost');
let timer = 0;

// selecting reports whether a person is marking text of the page, which must stay then.
function selecting() {
	const selection = document.getSelection();
	return selection !== null && !selection.isCollapsed;
}

// show replaces the content, and keeps what a person has scrolled to and where the focus is.
function show(html) {
	const next = new DOMParser().parseFromString(html, 'text/html').querySelector('main');
	if (next === null) throw new Error('no status page');
	const before = document.querySelector('main');
	const boxes = [...before.querySelectorAll('.scroll')].map(box => [box.id, box.scrollLeft]);
	const focus = document.activeElement;
	const links = [...before.querySelectorAll('a, [tabindex]')];
	const focused = links.indexOf(focus);
	before.replaceWith(next);
	document.title = next.dataset.title;
	for (const [id, left] of boxes) {
		const box = document.getElementById(id);
		if (box !== null) box.scrollLeft = left;
	}
	if (focused >= 0) {
		const place = focus.id ? document.getElementById(focus.id) : [...next.querySelectorAll('a, [tabindex]')][focused];
		if (place) place.focus({preventScroll: true});
	}
}

async function refresh() {
	timer = 0;
	try {
		const answer = await fetch('/', {cache: 'no-store', signal: AbortSignal.timeout(10000)});
		if (!answer.ok) throw new Error('status ' + answer.status);
		const html = await answer.text();
		if (!selecting()) show(html);
		lost.hidden = true;
	} catch {
		if (lost.hidden) {
			lost.textContent = '✗ The gateway has not answered since ' + new Date().toLocaleTimeString() + '. This is what it said before.';
			lost.hidden = false;
			document.title = '✗ s3-proxy does not answer';
		}
	}
	plan();
}

// plan waits for the next fetch, while somebody can see the page.
function plan() {
	if (timer === 0 && !document.hidden) timer = setTimeout(refresh, every);
}

document.addEventListener('visibilitychange', () => {
	clearTimeout(timer);
	timer = 0;
	if (!document.hidden) refresh();
});
plan();
