"""Opens pages in a headless Chromium, where the machine has one, and looks at them as a person would."""
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile

BROWSER = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
HEIGHT = 900


class Browser:
    """A Chromium that is spoken to through two pipes, as its DevTools protocol has it: no port, no driver."""

    def __init__(self, process, send, receive):
        self.process, self.send, self.receive = process, send, receive
        self.number, self.rest, self.events, self.session = 0, b'', [], None
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def read(self):
        """The next message."""
        while b'\0' not in self.rest:
            part = os.read(self.receive, 1 << 20)
            assert part, 'the browser has ended'
            self.rest += part
        message, _, self.rest = self.rest.partition(b'\0')
        return json.loads(message)

    def call(self, method, **params):
        """Call a method of the protocol; events that come before its answer are kept."""
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        content = json.dumps(message).encode() + b'\0'
        while content:
            content = content[os.write(self.send, content):]
        while (answer := self.read()).get('id') != self.number:
            self.events.append(answer)
        assert 'error' not in answer, answer
        return answer['result']

    def open(self, page, width, dark=False):
        """Open a page of a width in pixels, in light or dark colours, and wait until it is loaded."""
        self.events = []
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.call('Page.navigate', url=page.resolve().as_uri())
        while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
            self.events.append(self.read())

    def ask(self, expression):
        """Value of a JavaScript expression on the page."""
        return self.call('Runtime.evaluate', expression=expression, returnByValue=True)['result']['value']

    def complaints(self):
        """What the page has written to the console, and what it has thrown."""
        kinds = ('Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded')
        return [event for event in self.events if event.get('method') in kinds]

    def requests(self):
        """Addresses that the page has loaded, its own and those of data that it holds left out."""
        found = [event['params']['request']['url'] for event in self.events
                 if event.get('method') == 'Network.requestWillBeSent']
        return [url for url in found[1:] if not url.startswith('data:')]

    def picture(self, file):
        """Write a picture of the whole page."""
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=True, format='png')
        file.write_bytes(base64.b64decode(shot['data']))


@contextlib.contextmanager
def browser():
    """A browser; it is ended with the context."""
    receive, theirs_out = os.pipe()
    theirs_in, send = os.pipe()

    def connect():
        """Chromium reads from descriptor 3 and writes to 4."""
        first, second = os.dup(theirs_in), os.dup(theirs_out)
        os.dup2(first, 3)
        os.dup2(second, 4)

    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
             '--disable-extensions', '--disable-background-networking', f'--user-data-dir={profile}',
             '--remote-debugging-pipe'],
            preexec_fn=connect, start_new_session=True, close_fds=False, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Browser(process, send, receive)
        finally:
            # The group: a helper that outlived the browser would write to the profile while that is removed.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(send)
            os.close(receive)
