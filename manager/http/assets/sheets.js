// Lets xterm.js run under a policy that allows no inline style (`style-src 'self'`, CSP level 3).
//
// It writes its style sheets into <style> elements and some colours into `style` attributes, and the policy forbids both as
// they could come from anywhere. What a script of this site sets through the CSSOM it allows: so the text of such an element
// becomes a constructed style sheet, and such an attribute is set as a property.

/** Makes elements that xterm.js can use. To be called once, before it draws. */
export function allow(page) {
  const create = page.createElement.bind(page);
  page.createElement = (name, options) => {
    const kind = String(name).toLowerCase();
    if (kind === 'style') return sheetLike(page, create('template'));
    const element = create(name, options);
    if (kind === 'span') element.setAttribute = setAttribute;
    return element;
  };
}

function sheetLike(page, element) {
  const sheet = new CSSStyleSheet();
  page.adoptedStyleSheets = [...page.adoptedStyleSheets, sheet];
  Object.defineProperty(element, 'textContent', { set: (text) => sheet.replaceSync(text) });
  element.remove = () => {
    page.adoptedStyleSheets = page.adoptedStyleSheets.filter((one) => one !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

function setAttribute(name, value) {
  if (name === 'style') this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}
